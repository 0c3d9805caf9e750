"""What callers send: every field but the prompt may be left out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from shared.domain.acceleration import StepCache
from shared.domain.job import JobClassName, Schedule
from shared.domain.output_format import OutputFormat
from shared.domain.params import MAX_IMAGES, MAX_PROMPT_CHARACTERS, MAX_SEED, RANDOM_SEED, SIDE_MULTIPLE
from shared.domain.precision import Precision
from shared.domain.route import GeneratorChoice, Routing


def _require_text(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    return _require_storable(prompt)


def _require_storable(prompt: str) -> str:
    if "\x00" in prompt:
        raise ValueError("the prompt holds a NUL character")
    return prompt


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is outside of the years 1 to 9999 in UTC") from None


Prompt = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description="what to paint, or what to change",
        examples=["a large blue square"],
    ),
    AfterValidator(_require_text),
]
ModelName = Annotated[str, Field(min_length=1, max_length=128, description="see GET /api/models")]
Steps = Annotated[int, Field(ge=1, description="denoising steps; the largest value depends on the model")]
Guidance = Annotated[float, Field(ge=0, allow_inf_nan=False, description="distilled guidance; 0 for schnell")]
Side = Annotated[int, Field(gt=0, multiple_of=SIDE_MULTIPLE, description="pixels, a multiple of 16")]
Seed = Annotated[
    int,
    Field(ge=RANDOM_SEED, le=MAX_SEED, description="image i uses seed + i; unset or -1: drawn by the server"),
]
Priority = Annotated[int, Field(ge=-100, le=100, description="lower goes first within a class, like nice")]
Sampler = Annotated[
    str, Field(min_length=1, max_length=64, description="see GET /api/models", examples=["DPM++ 2M Karras"])
]
NegativePrompt = Annotated[
    str,
    Field(max_length=MAX_PROMPT_CHARACTERS, description="what to keep out; for models that have it"),
    AfterValidator(_require_storable),
]
Strength = Annotated[
    float, Field(gt=0, le=1, allow_inf_nan=False, description="how much of `image` is repainted; 1: all of it")
]
IPAdapterScale = Annotated[
    float, Field(ge=0, le=1, allow_inf_nan=False, description="how much `reference` counts; 0: not at all")
]
AskedPrecision = Annotated[
    Precision | None, Field(strict=False, description="exact, balanced (8 bits) or compact (4); unset: the worker's")
]
AskedFormat = Annotated[OutputFormat | None, Field(strict=False, description="file format of the pictures; unset: png")]
AskedStepCache = Annotated[
    StepCache | None,
    Field(strict=False, description="first_block: faster and lossy, see `capabilities` in GET /api/models; unset: off"),
]
StepCacheThreshold = Annotated[
    float,
    Field(gt=0, le=1, allow_inf_nan=False, description="steps that change less are skipped; unset: the model's own"),
]
NumImages = Annotated[int, Field(ge=1, le=MAX_IMAGES)]
Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]


class ScheduleFields(BaseModel):
    """When a job may run and what goes before it; every field may be left out."""

    # Lax where the rest of a JSON body is strict: JSON has neither times nor enums.
    job_class: Annotated[JobClassName, Field(strict=False)] = JobClassName.NORMAL
    priority: Priority = 0
    not_before: Annotated[Moment | None, Field(strict=False, description="do not start earlier")] = None
    deadline: Annotated[Moment | None, Field(strict=False, description="fail if not started by then")] = None

    def schedule(self) -> Schedule:
        """Return the domain's form of it."""
        return Schedule(
            job_class=self.job_class.job_class,
            priority=self.priority,
            not_before=self.not_before,
            deadline=self.deadline,
        )


class RoutingFields(BaseModel):
    """Who makes the pictures, and whether the words are worked on first."""

    generator: Annotated[
        GeneratorChoice,
        Field(strict=False, description="who makes the pictures; see `generators` in GET /api/models"),
    ] = GeneratorChoice.AUTO
    enhance: Annotated[bool, Field(description="let a language model enrich the prompt first")] = False

    def routing(self) -> Routing:
        """Return the domain's form of it."""
        return Routing(self.generator, self.enhance)


_NOT_PARAMS: Final = {"model", "enhance_instruction", *RoutingFields.model_fields, *ScheduleFields.model_fields}
_FILES: Final = {"file", "image", "mask", "reference"}


class ConditioningFields(BaseModel):
    """What some models can do beside painting from words, see ``capabilities`` in GET /api/models."""

    negative_prompt: NegativePrompt | None = None
    sampler: Sampler | None = None
    strength: Strength | None = None
    ip_adapter_scale: IPAdapterScale | None = None


class TextGenerateRequest(ConditioningFields, RoutingFields, ScheduleFields):
    """Text to image. The defaults are FLUX.1 [schnell]'s; a field left out takes the chosen model's own."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"prompt": "a small red circle in the top left on a blue background", "seed": 7},
                {"prompt": "a red fox asleep in fresh snow", "model": "schnell", "width": 1024, "height": 768},
            ]
        },
    )

    prompt: Prompt
    num_inference_steps: Steps = 4
    guidance_scale: Guidance = 0.0
    width: Side = 1024
    height: Side = 1024
    seed: Seed | None = None
    num_images: NumImages = 1
    precision: AskedPrecision = None
    output_format: AskedFormat = None
    step_cache: AskedStepCache = None
    step_cache_threshold: StepCacheThreshold | None = None
    model: ModelName | None = None

    def asked(self) -> dict[str, Any]:
        """Return only what the caller set, without the model."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude=_NOT_PARAMS)


class UploadRequest(RoutingFields, ScheduleFields):
    """The fields that edits and fills share; multipart, so numbers arrive as text."""

    model_config = ConfigDict(extra="forbid")

    prompt: Prompt
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    seed: Seed | None = None
    num_images: NumImages | None = None
    precision: AskedPrecision = None
    output_format: AskedFormat = None
    step_cache: AskedStepCache = None
    step_cache_threshold: StepCacheThreshold | None = None
    model: ModelName | None = None

    def asked(self) -> dict[str, Any]:
        """Return only what the caller set, without the model and the files."""
        return self.model_dump(exclude_none=True, exclude=_NOT_PARAMS | _FILES)


class RescheduleRequest(ScheduleFields):
    """What to change about a waiting job; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"job_class": "background", "priority": 10}]}
    )

    def changes(self) -> dict[str, Any]:
        """Return the columns to change."""
        values = self.model_dump(exclude_unset=True)
        return values | ({"job_class": self.job_class.job_class} if "job_class" in values else {})
