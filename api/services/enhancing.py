"""What is done to a job's words before they are painted."""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.domain.errors import CapabilityError
from shared.domain.params import JobKind, JobParams
from shared.domain.route import Enhancement, GeneratorChoice, Routing
from shared.settings import EnhancerSettings

REFERENCE: Final = "reference"
"""The enhancer of a job that follows a picture."""

_INSTRUCTION_KEPT: Final = (
    "the instruction was left as it is: enhance is for descriptions; enhance_instruction has it rewritten"
)
_REFERENCE_ENHANCES: Final = "the words were left as they are: the reference picture is what enhances this job"


class EnhancementPlan(NamedTuple):
    """The language model to ask first, what enhances the job already, and what the caller should know."""

    model: str | None = None
    made: Enhancement | None = None
    warnings: tuple[str, ...] = ()


def plan_enhancement(
    kind: JobKind, routing: Routing, generator: GeneratorChoice, params: JobParams, settings: EnhancerSettings
) -> EnhancementPlan:
    """Return what will enhance a job.

    Raises:
      CapabilityError: a language model is needed, and none is configured.
    """
    wanted = routing.enhance or routing.enhance_instruction
    if generator is GeneratorChoice.CONSISTENT:
        made = Enhancement(by=REFERENCE, ip_adapter_scale=getattr(params, "ip_adapter_scale", None))
        return EnhancementPlan(made=made, warnings=(_REFERENCE_ENHANCES,) if wanted else ())
    if not wanted:
        return EnhancementPlan()
    if kind is JobKind.EDIT and not routing.enhance_instruction:
        return EnhancementPlan(warnings=(_INSTRUCTION_KEPT,))
    if settings.enhancer_url is None:
        raise CapabilityError(
            "enhance needs a language model, and none is configured: "
            "set FLUX_ENHANCER_URL to an OpenAI-compatible API (docs/generators.md).",
            field="enhance",
        )
    return EnhancementPlan(model=settings.enhancer_model)
