"""Pictures on their way to a Space, and what is odd about those that come back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradio_client import handle_file
from PIL import Image

from worker.generators.flux_client.results import SpaceResult
from worker.generators.interface import GenerationContext


def with_files(arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the arguments with each picture as a file to upload: its pixels and nothing else."""
    named = {}
    for name, value in arguments.items():
        if isinstance(value, Image.Image):
            path = folder / f"{name}.png"
            pixels = value.copy()
            pixels.info.clear()
            pixels.save(path)
            named[name] = handle_file(path)
        else:
            named[name] = value
    return named


def warn_of_surprises(
    result: SpaceResult, options: Mapping[str, Any], sent_seed: int | None, context: GenerationContext
) -> None:
    """Tell ``context`` of everything in which the result is not what was asked for."""
    image = result.image
    asked = (options.get("width", image.width), options.get("height", image.height))
    if image.size != asked:
        context.warn(f"the Space made {image.width}x{image.height} pixels instead of {asked[0]}x{asked[1]}")
    if result.seed is not None and sent_seed is not None and result.seed != sent_seed:
        context.warn(f"the Space used seed {result.seed} instead of {sent_seed}")
    if result.count > 1:
        context.warn(f"the Space made {result.count} pictures for one seed; the first is kept")
    if image.getbbox() is None:
        context.warn("the picture is all black: the Space filtered it out, or its model failed")
