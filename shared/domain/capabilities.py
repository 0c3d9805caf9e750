"""Checks what is asked against what a model can do, before any GPU second is spent, and fills what is unset."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from shared.domain.conditioning import resolve_conditioning
from shared.domain.errors import CapabilityError, RequestError
from shared.domain.model import ModelLimits, PipelineSpec
from shared.domain.params import (
    MAX_SEED,
    PARAMS_ADAPTER,
    RANDOM_SEED,
    SIDE_MULTIPLE,
    BaseParams,
    JobKind,
    JobParams,
    on_grid,
)
from shared.domain.remarks import remarks
from shared.domain.step_cache import resolve_step_cache


@dataclass(frozen=True, slots=True)
class Resolved:
    """Concrete parameters, and what the caller should know about how they came to be."""

    params: JobParams
    warnings: tuple[str, ...]


_RANDOM_SEEDS: Final = 2**32
_NEARLY_EQUAL: Final = 1.02
"""How far the stretch of one side may be from that of the other before it shows."""


def resolve(
    spec: PipelineSpec,
    kind: JobKind,
    asked: Mapping[str, Any],
    source_size: tuple[int, int] | None = None,
    *,
    has_reference: bool = False,
) -> Resolved:
    """Fill unset parameters from the model and check all of them against its limits.

    ``asked`` holds only what the caller set; ``source_size`` is (width, height) in pixels of the uploaded
    ``image``, from which the result takes its size when none is asked for; ``has_reference`` tells of a
    picture to follow. A seed of ``RANDOM_SEED`` is one that is not set.

    Raises:
      CapabilityError: the model does not do this kind or what is asked, or a value is outside its limits.
      RequestError: a value is malformed, or belongs to a picture that was not sent.
    """
    if spec.kind is not kind:
        raise CapabilityError(
            f"Model {spec.model!r} does {spec.kind.value} jobs, not {kind.value}.",
            field="model",
            kind=spec.kind.value,
        )
    warnings: list[str] = []
    values = resolve_step_cache(spec, dict(asked))
    if kind is JobKind.GENERATE:
        values = resolve_conditioning(spec, values, has_image=source_size is not None, has_reference=has_reference)
    _fill_size(spec, kind, values, source_size, warnings)
    values.setdefault("num_inference_steps", spec.num_inference_steps)
    values.setdefault("guidance_scale", spec.guidance_scale)
    if values.get("seed") in (None, RANDOM_SEED):
        values["seed"] = secrets.randbelow(min(_RANDOM_SEEDS, MAX_SEED))
    params = _validated(kind, values)
    _check_limits(spec, params)
    return Resolved(params, (*warnings, *remarks(spec, params)))


def _validated(kind: JobKind, values: Mapping[str, Any]) -> JobParams:
    try:
        return PARAMS_ADAPTER.validate_python({"kind": kind, **values})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = str(problem["loc"][-1])[:64]
        raise RequestError(f"{field}: {problem['msg']}.", field=field) from error


def _fill_size(
    spec: PipelineSpec,
    kind: JobKind,
    values: dict[str, Any],
    source_size: tuple[int, int] | None,
    warnings: list[str],
) -> None:
    if source_size is None:
        values.setdefault("width", spec.native_side)
        values.setdefault("height", spec.native_side)
        return
    if ("width" in values) != ("height" in values):
        missing = "height" if "width" in values else "width"
        raise RequestError("Give both width and height, or neither to follow the picture.", field=missing)
    if "width" in values:
        _warn_of_stretching(kind, values, source_size, warnings)
        return
    if kind is JobKind.FILL and _takes(spec.limits, on_grid(source_size)):
        values["width"], values["height"] = source_size
        return
    pixel_budget = spec.limits.max_pixels if kind is JobKind.FILL else spec.native_side**2
    width, height = fit_size(source_size, spec.limits, pixel_budget, grow=spec.scales_source_up)
    values["width"], values["height"] = width, height
    if (width, height) != source_size:
        is_larger = width * height > source_size[0] * source_size[1]
        trained, nearest = f"about the size {spec.model} was trained at", f"the nearest size {spec.model} works at"
        warnings.append(
            f"the picture is {source_size[0]}x{source_size[1]}, the result {width}x{height}: "
            f"{trained if spec.scales_source_up and is_larger else nearest}; "
            "pass width and height to choose another"
        )


def _takes(limits: ModelLimits, size: tuple[int, int]) -> bool:
    return limits.min_side <= min(size) <= max(size) <= limits.max_side and size[0] * size[1] <= limits.max_pixels


def _warn_of_stretching(
    kind: JobKind, values: Mapping[str, Any], source_size: tuple[int, int], warnings: list[str]
) -> None:
    """An edit sees its picture in its own shape; the others lay it on the result's."""
    if kind is JobKind.EDIT:
        return
    (width, height), (source_width, source_height) = (values["width"], values["height"]), source_size
    ratio = width * source_height / (height * source_width)
    if max(ratio, 1 / ratio) > _NEARLY_EQUAL:
        warnings.append(
            f"the picture is {source_width}x{source_height} and is stretched to {width}x{height}; "
            "leave width and height out to keep its shape"
        )


def source_size_for(spec: PipelineSpec, source: tuple[int, int], result: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) at which an edit reads its source picture: its own shape, not larger than the result.

    A smaller one is read as it is, or scaled up to the result's area where the model was trained at a size of its own,
    and not beyond that size.
    """
    area = result[0] * result[1]
    trained_at = min(area, spec.native_side**2)
    if spec.scales_source_up and source[0] * source[1] < trained_at:
        return fit_size(source, spec.limits, trained_at, grow=True)
    return fit_size(source, spec.limits, area)


def fit_size(size: tuple[int, int], limits: ModelLimits, max_pixels: int, *, grow: bool = False) -> tuple[int, int]:
    """Return the (width, height) nearest to ``size`` in shape that is within limits and on the 16-pixel grid.

    ``size`` is scaled down to ``max_pixels``; with ``grow`` up to them, too.
    """
    width, height = size
    largest = math.inf if grow else 1.0
    scale = min(largest, math.sqrt(max_pixels / (width * height)), limits.max_side / max(width, height))
    scale = max(scale, limits.min_side / min(width, height) if min(width, height) * scale < limits.min_side else 0)

    def snap(side: float) -> int:
        snapped = round(side / SIDE_MULTIPLE) * SIDE_MULTIPLE
        return max(limits.min_side, min(limits.max_side, snapped))

    fitted_width, fitted_height = snap(width * scale), snap(height * scale)
    while fitted_width * fitted_height > max_pixels and max(fitted_width, fitted_height) > limits.min_side:
        if fitted_width >= fitted_height:
            fitted_width -= SIDE_MULTIPLE
        else:
            fitted_height -= SIDE_MULTIPLE
    return fitted_width, fitted_height


def _check_limits(spec: PipelineSpec, params: BaseParams) -> None:
    limits = spec.limits
    _at_most(spec, "num_inference_steps", params.num_inference_steps, limits.max_num_inference_steps)
    _at_most(spec, "guidance_scale", params.guidance_scale, limits.max_guidance_scale)
    for field, side in zip(("width", "height"), params.grid_size, strict=True):
        if side < limits.min_side:
            raise CapabilityError(
                f"{field} is {side}; {spec.model} needs at least {limits.min_side} pixels.",
                field=field,
                limit=limits.min_side,
            )
        _at_most(spec, field, side, limits.max_side)
    if math.prod(params.grid_size) > limits.max_pixels:
        raise CapabilityError(
            f"width x height is {params.width}x{params.height} = {params.width * params.height} pixels; "
            f"{spec.model} takes at most {limits.max_pixels}.",
            field="width",
            limit=limits.max_pixels,
        )


def _at_most(spec: PipelineSpec, field: str, value: float, limit: float) -> None:
    if value > limit:
        raise CapabilityError(
            f"{field} is {_written(value)}; {spec.model} takes at most {limit:g}.", field=field, limit=limit
        )


def _written(value: float) -> str:
    """Return a number as a person writes it; JSON's integers may have thousands of digits, too many for a float."""
    digits = f"{value:g}" if isinstance(value, float) else str(value)
    return digits if len(digits) <= 20 else f"a number of {len(digits)} digits"
