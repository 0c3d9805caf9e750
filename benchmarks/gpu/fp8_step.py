"""B1 in fp8: one compiled step of the transformer, against the best fp8 product in the same process.

Attention stays in bfloat16, so the share counts all of a step's operations against a peak that only part of them can
reach. Eager is measured too: without a compiler each activation is read and written several times to be scaled.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torchao.quantization import Float8Tensor, PerRow

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import RANDOM_WEIGHTS, Subject, pick_subject
from benchmarks.gpu.skip import need_card
from benchmarks.gpu.step_roofline import PIXELS_PER_TOKEN, SIDES, compiled, operations, step_times, timed
from benchmarks.report import emit, say
from shared.catalog import find_model
from shared.domain.precision import Precision
from worker.pipelines.quantization import quantize
from worker.pipelines.weight_formats import formats_for

_MATRIX_SIDE = 8192


def main() -> None:
    """Measure and print the result."""
    need_card()
    subject = pick_subject()
    if not subject.device.has_fp8:
        print(json.dumps({"skipped": f"{subject.device.description} has no fp8"}))
        sys.exit(0)
    emit("gpu.fp8_step", *measure(subject, SIDES["cuda"], modes=("eager", "compiled")), RANDOM_WEIGHTS)


def measure(subject: Subject, sides: Sequence[int], modes: Sequence[str]) -> tuple[Figures, list[Target]]:
    """Return one step of FLUX.1 [dev] in fp8 at each size."""
    device, spec = subject.device, find_model("dev")
    peak = fp8_peak(device.torch_device)
    transformer = subject.transformer(spec.model)
    quantize(transformer, formats_for(Precision.BALANCED, has_fp8=True)["transformer"], device.torch_device)
    transformer.to(device.torch_device)
    figures: Figures = {"fp8_tflops": round(peak / 1e12, 1), "weights_bytes": torch.cuda.memory_allocated()}
    shares = {}
    for mode in modes:
        with compiled(transformer) if mode == "compiled" else nullcontext() as blocks:
            for side in sides:
                say(f"fp8, {mode}, {side} x {side} ...")
                tokens = side * side // PIXELS_PER_TOKEN
                times = step_times(transformer, subject, tokens, spec.max_sequence_length)
                counted = operations(transformer.config, tokens, spec.max_sequence_length)
                shares[mode, side] = counted / median(times) / peak
                figures[f"{mode}_{side}"] = {
                    "step_ms": summary([1000 * t for t in times]),
                    "share_of_fp8_peak": round(shares[mode, side], 4),
                }
        figures["compile_trouble"] = blocks.trouble if blocks else None
    reached = shares.get(("compiled", 1024))
    if reached is None:
        return figures, []
    return figures, [Target("share of the fp8 peak, compiled, 1024", reached, 0.50, "", at_least=True)]


@torch.no_grad()
def fp8_peak(device: torch.device, side: int = _MATRIX_SIDE) -> float:
    """Return operations per second of the best large product of matrices that are in fp8 already, scaled by row."""
    left, right = (
        Float8Tensor.from_hp(torch.randn(side, side, device=device, dtype=torch.bfloat16), granularity=PerRow())
        for _ in range(2)
    )
    return 2 * side**3 / min(timed(lambda: _product(left, right), device))


def _product(left: Float8Tensor, right: Float8Tensor) -> torch.Tensor:
    """Return ``left`` times the transpose of ``right``, in bfloat16."""
    return torch._scaled_mm(
        left.qdata,
        right.qdata.t(),
        scale_a=left.scale,
        scale_b=right.scale.t(),
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )


if __name__ == "__main__":
    main()
