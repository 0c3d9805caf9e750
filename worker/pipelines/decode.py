"""Latents to pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared.domain.acceleration import CHANNELS_LAST_DECODE
from shared.domain.errors import NumericError
from worker.pipelines.loader import LoadedPipeline, Pipeline
from worker.pipelines.lossy_layout import channels_last


@torch.no_grad()
def decode_latents(loaded: LoadedPipeline, latents: torch.Tensor, width: int, height: int) -> Image.Image:
    """Decode latents to an RGB picture of ``width`` x ``height`` pixels.

    The arithmetic of the pipelines' own last step (diffusers 0.42, ``FluxPipeline.__call__`` and
    ``StableDiffusionPipeline.__call__``), with the conversion to 8 bits done on the device, from float32. diffusers
    stays in the VAE's dtype until then: in bfloat16 its pixels may be one level (of 255) away from these.

    Raises:
      NumericError: latents or pixels hold NaN or infinity.
    """
    pipeline = loaded.pipeline
    _require_finite(latents, "latents")
    latents = unpacked(pipeline, latents, width, height)
    config = pipeline.vae.config
    latents = latents / config.scaling_factor + (config.shift_factor or 0.0)
    with channels_last(pipeline.vae) if CHANNELS_LAST_DECODE in loaded.accelerations else nullcontext():
        decoded = pipeline.vae.decode(latents, return_dict=False)[0]
    _require_finite(decoded, "pixels")
    pixels = (decoded[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def unpacked(pipeline: Pipeline, latents: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Return latents of shape (1, channels, rows, columns), as Stable Diffusion has them.

    FLUX packs squares of four places into one token: (1, tokens, 4 x channels).
    """
    if not hasattr(pipeline, "_unpack_latents"):
        return latents
    spread: torch.Tensor = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    return spread


@contextmanager
def tiled(vae: Any) -> Iterator[None]:
    """Decode in overlapping tiles of half the VAE's own size (512 pixels for FLUX.1) until the block ends."""
    before = vae.tile_sample_min_size, vae.tile_latent_min_size
    vae.tile_sample_min_size, vae.tile_latent_min_size = (size // 2 for size in before)
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = before


def _require_finite(tensor: torch.Tensor, what: str) -> None:
    if not torch.isfinite(tensor).all():
        raise NumericError(f"The model produced {what} that are not finite numbers; no picture can be made of them.")
