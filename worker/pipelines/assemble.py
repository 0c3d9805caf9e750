"""Other pipelines around the parts of a resident one: nothing is copied, and the resident one stays as it is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import diffusers

from worker.pipelines.loader import LoadedPipeline

IMAGE_TO_IMAGE: Final[Mapping[str, str]] = {
    "FluxPipeline": "FluxImg2ImgPipeline",
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
}
"""Per text-to-image class of diffusers, the one that starts from a picture and takes the same parts."""


def assemble(pipeline_class: str, resident: Any, **parts: Any) -> Any:
    """Return a pipeline of a diffusers class around the parts and settings of ``resident``; ``parts`` replace some.

    By the constructor, because ``from_pipe`` changes the dtype of shared parts.
    """
    chosen = getattr(diffusers, pipeline_class)
    taken = inspect.signature(chosen.__init__).parameters
    components = {**resident.components, **parts}
    settings = {name: value for name, value in resident.config.items() if name not in components}
    everything = {name: value for name, value in {**settings, **components}.items() if name in taken}
    pipeline = chosen(**everything)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def starting_from_picture(loaded: LoadedPipeline, **parts: Any) -> LoadedPipeline:
    """Return the same model as a pipeline that starts from a picture instead of noise."""
    return replace(loaded, pipeline=assemble(IMAGE_TO_IMAGE[loaded.spec.pipeline_class], loaded.pipeline, **parts))
