"""Pixels to PNG bytes that say how they were made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image, PngImagePlugin


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
