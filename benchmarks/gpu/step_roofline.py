"""B1 and B9: one transformer step as a share of the best matrix product in the same process, and what a batch gains.

Operations of a step (FLUX.1, from the layer sizes; L = picture and text tokens): 12.91e9 L for the linear layers and
700,416 L^2 for attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.figures import Figures, Target, median, summary
from benchmarks.gpu.family import RANDOM_WEIGHTS, RandomLoader
from benchmarks.gpu.skip import need_card
from benchmarks.report import emit, say
from shared.catalog import find_model
from worker.pipelines.device import pick_device

TEXT_TOKENS = 512
SIDES = (512, 768, 1024)
BATCHES = (1, 2, 4)
WARM_UP, REPEATS = 3, 10
_MATRIX_SIDE = 8192


def main() -> None:
    """Measure and print the result."""
    need_card()
    device = pick_device("cuda")
    peak = matmul_peak(device.torch_device)
    transformer = RandomLoader(device).load(find_model("dev")).pipeline.transformer.to(device.torch_device)
    figures: Figures = {"matmul_tflops": round(peak / 1e12, 1)}
    shares = {}
    for mode in ("eager", "compiled"):
        if mode == "compiled":
            transformer.compile_repeated_blocks(fullgraph=True)
        for side in SIDES:
            say(f"{mode}, {side} x {side} ...")
            times = step_times(transformer, device.torch_device, side, batch=1)
            shares[mode, side] = operations(side) / median(times) / peak
            figures[f"{mode}_{side}"] = {
                "step_ms": summary([1000 * t for t in times]),
                "share_of_peak": round(shares[mode, side], 4),
            }
    alone = median(step_times(transformer, device.torch_device, 1024, batch=1))
    for batch in BATCHES[1:]:
        together = median(step_times(transformer, device.torch_device, 1024, batch=batch))
        figures[f"gain_of_batch_{batch}"] = round(batch * alone / together, 4)
    target = Target("share of the matmul peak, compiled, 1024", shares["compiled", 1024], 0.70, "", at_least=True)
    emit("gpu.step_roofline", figures, [target], RANDOM_WEIGHTS)


def operations(side: int, text_tokens: int = TEXT_TOKENS) -> float:
    """Return the floating point operations of one step for a square picture of ``side`` pixels."""
    tokens = (side // 16) ** 2 + text_tokens
    return 12.91e9 * tokens + 700_416 * tokens**2


def matmul_peak(device: torch.device) -> float:
    """Return operations per second of the best large bfloat16 product."""
    left, right = (torch.randn(_MATRIX_SIDE, _MATRIX_SIDE, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * _MATRIX_SIDE**3 / min(timed(lambda: left @ right))


@torch.no_grad()
def step_times(transformer: Any, device: torch.device, side: int, batch: int) -> list[float]:
    """Return the seconds of single forwards."""
    tokens, dtype = (side // 16) ** 2, torch.bfloat16
    grid = torch.zeros(tokens, 3, device=device, dtype=dtype)
    grid[:, 1:] = torch.cartesian_prod(torch.arange(side // 16), torch.arange(side // 16)).to(device)
    inputs = {
        "hidden_states": torch.randn(batch, tokens, 64, device=device, dtype=dtype),
        "encoder_hidden_states": torch.randn(batch, TEXT_TOKENS, 4096, device=device, dtype=dtype),
        "pooled_projections": torch.randn(batch, 768, device=device, dtype=dtype),
        "timestep": torch.full((batch,), 0.5, device=device, dtype=dtype),
        "guidance": torch.full((batch,), 3.5, device=device),
        "img_ids": grid,
        "txt_ids": torch.zeros(TEXT_TOKENS, 3, device=device, dtype=dtype),
    }
    return timed(lambda: transformer(**inputs, return_dict=False))


def timed(work: Callable[[], object]) -> list[float]:
    """Return the seconds of each repeat, by the card's own clock."""
    for _ in range(WARM_UP):
        work()
    seconds = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        work()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return seconds


if __name__ == "__main__":
    main()
