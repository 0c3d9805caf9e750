"""Steps that are not computed: diffusers' first-block cache, part of a model only while one image is denoised.

Its hooks wrap the blocks' ``forward`` and hold the last computed step's tensors. They are put on and taken off again
per image, so that nothing of them is left after a finished, cancelled or failed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from diffusers import FirstBlockCacheConfig

from shared.domain.acceleration import FIRST_BLOCK_CACHE, Acceleration, StepCache
from shared.domain.params import BaseParams

_PASS: Final = "cond"
"""diffusers' name for the denoising call with the prompt; this project's FLUX calls have no other."""


def accelerations_of(params: BaseParams) -> tuple[Acceleration, ...]:
    """Return what a job's parameters ask for by name."""
    return (FIRST_BLOCK_CACHE,) if params.step_cache is StepCache.FIRST_BLOCK else ()


@contextmanager
def step_cache(denoiser: Any, params: BaseParams) -> Iterator[None]:
    """Skip steps as the job asks, from the first step of an image to the block's end."""
    if params.step_cache is not StepCache.FIRST_BLOCK or params.step_cache_threshold is None:
        yield
        return
    denoiser.enable_cache(FirstBlockCacheConfig(threshold=params.step_cache_threshold))
    try:
        with denoiser.cache_context(_PASS):  # of diffusers 0.42's FLUX pipelines only FluxPipeline enters one
            yield
    finally:
        denoiser.disable_cache()
