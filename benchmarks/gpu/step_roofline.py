"""B1 and B9: one transformer step as a share of the best matrix product in the same process, and what a batch gains.

The operations of a step are counted on the model's own class without weights: linear layers and attention.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from diffusers import FluxTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import Subject, compiling, pick_subject
from benchmarks.gpu.rates import REPEATS, WARM_UP
from benchmarks.report import emit, say
from shared.catalog import find_model
from worker.pipelines.attention import NATIVE, choose_attention
from worker.pipelines.compiling import CompiledBlocks, repeated_blocks
from worker.pipelines.device import DeviceUnavailable

SIDES: Final = {"cuda": (512, 768, 1024), "cpu": (64, 128)}
BATCHES: Final = (2, 4)
CUDNN: Final = "_native_cudnn"
_MATRIX_SIDE: Final = {"cuda": 8192, "cpu": 1024}
PIXELS_PER_TOKEN: Final = 16 * 16


def main() -> None:
    """Measure and print the result."""
    subject = pick_subject()
    sides = SIDES[subject.device.torch_device.type]
    figures, targets = measure(subject, sides, backends=(NATIVE, CUDNN), compiles=True, batches=BATCHES)
    emit("gpu.step_roofline", figures, targets, subject.weights)


def measure(
    subject: Subject, sides: Sequence[int], backends: Sequence[str], *, compiles: bool, batches: Sequence[int] = ()
) -> tuple[Figures, list[Target]]:
    """Return one step of FLUX.1 [dev] (or the demo model) at each size: per attention backend, then compiled.

    The largest side is also measured with a reference picture, as an edit by Kontext reads it, and with ``batches``.
    """
    spec = find_model(subject.models[-3])
    transformer = subject.transformer(spec.model)
    peak = matmul_peak(subject)
    text, largest = spec.max_sequence_length, sides[-1]
    tokens = {f"{side}": side * side // PIXELS_PER_TOKEN for side in sides}
    tokens[f"{largest}+reference"] = 2 * tokens[f"{largest}"]
    figures: Figures = {"model": spec.model, "matmul_tflops": round(peak / 1e12, 4)}

    def share(mode: str) -> float:
        """Measure every size in one mode, and return the share of the peak at the largest side."""
        shares = {}
        for name, count in tokens.items():
            say(f"{mode}, {name} ...")
            times = step_times(transformer, subject, count, text)
            shares[name] = operations(transformer.config, count, text) / median(times) / peak
            figures[f"{mode}_{name}"] = {
                "step_ms": summary([1000 * t for t in times]),
                "share_of_peak": round(shares[name], 4),
            }
        return shares[f"{largest}"]

    for backend in backends:
        if trouble := use_attention(transformer, backend, subject):
            figures[f"eager_{backend}"] = {"skipped": trouble}
        else:
            share("eager" if backend == NATIVE else f"eager_{backend}")
    use_attention(transformer, NATIVE, subject)
    count = tokens[f"{largest}"]
    alone = median(step_times(transformer, subject, count, text)) if batches else 0.0
    for batch in batches:
        together = median(step_times(transformer, subject, count, text, batch))
        figures[f"gain_of_batch_{batch}"] = round(batch * alone / together, 4)
    choice = compiling(subject.device)
    figures["compile"] = choice.model_dump()
    if not compiles or choice.value != "on":
        return figures, []
    with compiled(transformer) as blocks:
        reached = share("compiled")
    figures["compile_trouble"] = blocks.trouble
    name = f"share of the matmul peak, compiled, {largest}"
    return figures, [Target(name, reached, 0.70, "", at_least=True)] if subject.device.is_cuda else []


def use_attention(transformer: Any, backend: str, subject: Subject) -> str | None:
    """Let a transformer attend by a backend; return why that does not work here."""
    try:
        choose_attention(backend, subject.device)
    except DeviceUnavailable as error:
        return str(error)
    transformer.set_attention_backend(backend)
    return None


@contextmanager
def compiled(transformer: Any) -> Iterator[CompiledBlocks]:
    """Have a transformer's blocks compiled until the block ends."""
    blocks = CompiledBlocks(transformer)
    try:
        yield blocks
    finally:
        for block in repeated_blocks(transformer):
            del block.forward


def operations(config: Any, picture_tokens: int, text_tokens: int) -> int:
    """Return the floating point operations of one step (a multiplication and an addition are two)."""
    meta = torch.device("meta")
    with meta:
        transformer = FluxTransformer2DModel.from_config(config)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        transformer(**step_inputs(config, picture_tokens, text_tokens, meta, torch.float32))
    return int(counter.get_total_flops())


def step_inputs(
    config: Any, picture_tokens: int, text_tokens: int, device: torch.device, dtype: torch.dtype, batch: int = 1
) -> dict[str, Any]:
    """Return the arguments of one forward; the values are random, for nothing depends on them."""

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    positions = torch.zeros(picture_tokens, 3, device=device, dtype=dtype)
    return {
        "hidden_states": random(batch, picture_tokens, config["in_channels"]),
        "encoder_hidden_states": random(batch, text_tokens, config["joint_attention_dim"]),
        "pooled_projections": random(batch, config["pooled_projection_dim"]),
        "timestep": torch.full((batch,), 0.5, device=device, dtype=dtype),
        "guidance": torch.full((batch,), 3.5, device=device) if config["guidance_embeds"] else None,
        "img_ids": positions,
        "txt_ids": torch.zeros(text_tokens, 3, device=device, dtype=dtype),
        "joint_attention_kwargs": {},
        "return_dict": False,
    }


def matmul_peak(subject: Subject) -> float:
    """Return operations per second of the best large product in the weights' type."""
    device, dtype = subject.device.torch_device, subject.device.dtype
    side = _MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: left @ right, device))


@torch.no_grad()
def step_times(
    transformer: Any, subject: Subject, picture_tokens: int, text_tokens: int, batch: int = 1
) -> list[float]:
    """Return the seconds of single forwards."""
    device, dtype = subject.device.torch_device, subject.device.dtype
    inputs = step_inputs(transformer.config, picture_tokens, text_tokens, device, dtype, batch)
    return timed(lambda: transformer(**inputs), device)


def timed(work: Callable[[], object], device: torch.device) -> list[float]:
    """Return the seconds of each repeat, by the card's own clock where there is one."""
    for _ in range(WARM_UP):
        work()
    return [_on_card(work) if device.type == "cuda" else _on_cpu(work) for _ in range(REPEATS)]


def _on_card(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _on_cpu(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
