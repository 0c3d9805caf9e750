"""How far the forms that only `balanced` and `compact` use are from the plain ones: one decode, one transformer pass.

    python -m benchmarks.lossy_layout [FOLDER]

FOLDER is a FLUX model in diffusers' layout; unset: the demo model. Runs on the CPU in bfloat16, as a card does.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel

from benchmarks.figures import Figures
from benchmarks.report import DEMO_WEIGHTS, emit
from worker.pipelines.lossy_layout import channels_last, fuse_qkv
from worker.pipelines.quantization import quantize
from worker.pipelines.weight_formats import INT8
from worker.pipelines.weights import DEMO_CHECKPOINT

_SIDE = 256
_TEXT_TOKENS = 24
_REPEATS = 3


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=DEMO_CHECKPOINT / "demo")
    folder = parser.parse_args().folder
    weights = DEMO_WEIGHTS if folder.parent == DEMO_CHECKPOINT else "random, normal"
    emit("lossy_layout", {"channels_last_decode": decode(folder), "fused_qkv": projections(folder)}, [], weights)


@torch.no_grad()
def decode(folder: Path) -> Figures:
    """Return the differences of one decode to 256 x 256 pixels, in levels of 255 and relative, and its times."""
    random = torch.Generator().manual_seed(0)
    exact = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32).eval()
    side = _SIDE // 2 ** (len(exact.config.block_out_channels) - 1)
    latents = torch.randn(1, exact.config.latent_channels, side, side, generator=random)
    reference = exact.decode(latents).sample
    vae = exact.to(torch.bfloat16)

    def run() -> torch.Tensor:
        decoded: torch.Tensor = vae.decode(latents.to(torch.bfloat16)).sample
        return decoded.float()

    plain, plain_seconds = timed(run)
    with channels_last(vae):
        other, other_seconds = timed(run)
    levels = (to_levels(plain) - to_levels(other)).abs()
    return {
        "levels_max": levels.max().item(),
        "levels_mean": round(levels.mean().item(), 4),
        "from_plain": relative(other, plain),
        "plain_from_float32": relative(plain, reference),
        "other_from_float32": relative(other, reference),
        "seconds_plain": round(plain_seconds, 3),
        "seconds_other": round(other_seconds, 3),
        "plain_afterwards_equal": torch.equal(run(), plain),
    }


@torch.no_grad()
def projections(folder: Path) -> Figures:
    """Return the relative difference of one pass of a transformer in int8, joined projections against three."""
    plain = FluxTransformer2DModel.from_pretrained(folder / "transformer", dtype=torch.bfloat16).eval()
    joined = copy.deepcopy(plain)
    fuse_qkv(joined)
    outputs = []
    for transformer in (plain, joined):
        quantize(transformer, INT8, torch.device("cpu"))
        outputs.append(forward(transformer))
    return {"from_plain": relative(outputs[1], outputs[0]), "equal": torch.equal(*outputs)}


def forward(transformer: Any) -> torch.Tensor:
    """Return what a transformer makes of random tokens of a 256 x 256 picture."""
    random, config = torch.Generator().manual_seed(0), transformer.config
    tokens = (_SIDE // 16) ** 2

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).to(torch.bfloat16)

    output: torch.Tensor = transformer(
        hidden_states=values(1, tokens, config.in_channels),
        encoder_hidden_states=values(1, _TEXT_TOKENS, config.joint_attention_dim),
        pooled_projections=values(1, config.pooled_projection_dim),
        timestep=torch.tensor([0.5], dtype=torch.bfloat16),
        guidance=torch.tensor([3.5]) if config.guidance_embeds else None,
        img_ids=torch.zeros(tokens, 3),
        txt_ids=torch.zeros(_TEXT_TOKENS, 3),
        return_dict=False,
    )[0]
    return output.float()


def timed(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Return the output and the shortest of a few times in seconds."""
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        output = run()
        times.append(time.perf_counter() - began)
    return output, min(times)


def to_levels(decoded: torch.Tensor) -> torch.Tensor:
    """Return pixels of 0..255."""
    return (decoded / 2 + 0.5).clamp(0, 1).mul(255).round()


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the mean difference as a share of the mean."""
    return round(((found - expected).abs().mean() / expected.abs().mean()).item(), 6)


if __name__ == "__main__":
    main()
