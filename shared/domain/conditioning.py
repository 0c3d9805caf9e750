"""What a generate job asks for beside words and a size: negative prompt, sampler, init picture, reference picture."""

from __future__ import annotations

from typing import Any, NoReturn

from shared.domain.errors import CapabilityError, RequestError
from shared.domain.model import PipelineSpec
from shared.domain.params import BaseParams


def resolve_conditioning(
    spec: PipelineSpec, values: dict[str, Any], *, has_image: bool, has_reference: bool
) -> dict[str, Any]:
    """Return ``values`` with the model's defaults for what the job needs and left out.

    Raises:
      CapabilityError: the model cannot do what is asked; names the field, and the limit where there is one.
      RequestError: a value belongs to a picture that was not sent.
    """
    checked = dict(values)
    if not checked.get("negative_prompt"):
        checked.pop("negative_prompt", None)  # an empty one asks for nothing
    elif not spec.capabilities.negative_prompt:
        _refuse(spec, "negative_prompt", "has no negative prompt")
    _resolve_sampler(spec, checked)
    _resolve_image(spec, checked, has_image)
    _resolve_reference(spec, checked, has_reference)
    return checked


def is_guided(params: BaseParams) -> bool:
    """Whether Stable Diffusion is asked twice per step, with the prompt and with the negative one (or none)."""
    return params.guidance_scale > 1


def _resolve_sampler(spec: PipelineSpec, values: dict[str, Any]) -> None:
    known = spec.capabilities.samplers
    if (asked := values.get("sampler")) is None:
        values["sampler"] = known[0] if known else None
    elif not known:
        _refuse(spec, "sampler", "comes with its own sampler and lets no other be chosen")
    elif asked not in known:
        raise CapabilityError(
            f"sampler: {spec.model} knows no {str(asked)[:64]!r}. Use one of: {', '.join(known)}.",
            field="sampler",
            limit=list(known),
        )


def _resolve_image(spec: PipelineSpec, values: dict[str, Any], has_image: bool) -> None:
    default = spec.capabilities.strength
    if has_image and default is None:
        _refuse(spec, "image", "starts from noise and takes no init picture")
    if not has_image or default is None:
        if "strength" in values:
            raise RequestError(
                "strength: it says how much of an init picture is repainted; send a picture as `image`, too.",
                field="strength",
            )
        return
    strength: float = values.setdefault("strength", default)
    steps = min(values.get("num_inference_steps", spec.num_inference_steps), spec.limits.max_num_inference_steps)
    if 0 < strength <= 1 and int(strength * steps) < 1:
        raise RequestError(
            f"strength: {strength:g} of {steps} steps is less than one step, so nothing would change. "
            f"Use at least {1 / steps:g}, or more steps.",
            field="strength",
            limit=1 / steps,
        )


def _resolve_reference(spec: PipelineSpec, values: dict[str, Any], has_reference: bool) -> None:
    adapter = spec.capabilities.ip_adapter
    if has_reference and adapter is None:
        _refuse(spec, "reference", "has no image-prompt adapter, so it cannot follow a reference picture")
    if has_reference and adapter is not None:
        values.setdefault("ip_adapter_scale", adapter.scale)
    elif "ip_adapter_scale" in values:
        raise RequestError(
            "ip_adapter_scale: it says how much a reference picture counts; send one as `reference`, too.",
            field="ip_adapter_scale",
        )


def _refuse(spec: PipelineSpec, field: str, why: str) -> NoReturn:
    raise CapabilityError(
        f"{field}: {spec.model} {why}. GET /api/models shows what each model can do.", field=field, limit=None
    )
