"""Which models may skip denoising steps, and what a job must say for it."""

from __future__ import annotations

from typing import Any

from shared.domain.acceleration import StepCache
from shared.domain.errors import CapabilityError, RequestError
from shared.domain.model import PipelineSpec


def step_caches(spec: PipelineSpec) -> tuple[StepCache, ...]:
    """Return what a job of this model may ask for."""
    return (StepCache.OFF,) if spec.capabilities.step_cache_threshold is None else tuple(StepCache)


def resolve_step_cache(spec: PipelineSpec, asked: dict[str, Any]) -> dict[str, Any]:
    """Return ``asked`` with the model's own threshold where a step cache is wanted and none is given.

    Raises:
      CapabilityError: the model has no use for a cache; names the field and what there is.
      RequestError: a threshold is given for a cache that is not wanted.
    """
    values = dict(asked)
    if values.get("step_cache") in (None, StepCache.OFF):
        values.pop("step_cache", None)  # off asks for nothing
        if values.get("step_cache_threshold") is not None:
            raise RequestError(
                "step_cache_threshold: it belongs to a step cache; send `step_cache: first_block`, too.",
                field="step_cache_threshold",
            )
        return values
    if spec.capabilities.step_cache_threshold is None:
        raise CapabilityError(
            f"step_cache: {spec.model} takes no step cache; leave it out or send `off`. "
            "GET /api/models shows what each model can do.",
            field="step_cache",
            limit=[*map(str, step_caches(spec))],
        )
    values.setdefault("step_cache_threshold", spec.capabilities.step_cache_threshold)
    return values
