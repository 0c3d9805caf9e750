"""Latents to pixels, pixels to PNG bytes that say how they were made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, PngImagePlugin

from shared.domain.errors import NumericError


@torch.no_grad()
def decode_latents(pipeline: DiffusionPipeline, latents: torch.Tensor, width: int, height: int) -> Image.Image:
    """Decode packed latents of shape (1, tokens, channels) to an RGB picture of ``width`` x ``height`` pixels.

    The same arithmetic as the pipelines' own last step (diffusers 0.42, ``FluxPipeline.__call__``), with the
    conversion to 8 bits done on the device.

    Raises:
      NumericError: latents or pixels hold NaN or infinity.
    """
    _require_finite(latents, "latents")
    unpacked = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    config = pipeline.vae.config
    decoded = pipeline.vae.decode(unpacked / config.scaling_factor + config.shift_factor, return_dict=False)[0]
    _require_finite(decoded, "pixels")
    pixels = (decoded[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def _require_finite(tensor: torch.Tensor, what: str) -> None:
    if not torch.isfinite(tensor).all():
        raise NumericError(f"The model produced {what} that are not finite numbers; no picture can be made of them.")


def encode_png(image: Image.Image, parameters: Mapping[str, Any]) -> bytes:
    """Return PNG bytes with two text chunks: ``parameters`` (the A1111 form many tools read) and ``flux-image`` (JSON).

    Equal picture and parameters give equal bytes.
    """
    text = PngImagePlugin.PngInfo()
    text.add_itxt("parameters", _a1111_text(parameters))
    text.add_itxt("flux-image", json.dumps(dict(parameters), ensure_ascii=False, sort_keys=True))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _a1111_text(parameters: Mapping[str, Any]) -> str:
    """Return prompt, newline, settings: the text AUTOMATIC1111's web UI writes and Civitai reads."""
    settings = {
        "Steps": parameters["num_inference_steps"],
        "Sampler": "Euler",
        "CFG scale": parameters["guidance_scale"],
        "Seed": parameters["seed"],
        "Size": f"{parameters['width']}x{parameters['height']}",
        "Model": parameters["model"],
    }
    return f"{parameters['prompt']}\n{', '.join(f'{name}: {value}' for name, value in settings.items())}"
