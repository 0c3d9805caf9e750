"""What goes over the wire. Requests say what may be left out; answers always carry every field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from shared.domain.job import JobClassName, Schedule
from shared.domain.output_format import OutputFormat
from shared.domain.params import MAX_IMAGES, MAX_PROMPT_CHARACTERS, MAX_SEED, SIDE_MULTIPLE, JobKind
from shared.domain.precision import Precision
from shared.domain.report import PlanReport
from shared.domain.route import Generator, GeneratorChoice, Lane, Routing
from shared.domain.status import JobStatus, Phase


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
Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="image i uses seed + i; unset: drawn by the server")]
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


class ImageResponse(BaseModel):
    """The plain synchronous answer: one picture in the format asked for, base64."""

    image_base64: str


class ImageRead(BaseModel):
    """One finished picture."""

    id: str
    url: str
    index: int
    seed: int
    width: int
    height: int
    content_type: str
    size_bytes: int
    sha256: str
    generator: Generator


class InputRead(BaseModel):
    """One uploaded picture as it was stored."""

    role: str
    width: int
    height: int


class ProgressRead(BaseModel):
    """Where a running job is; ``value`` is the share of all steps of all images, 0..1."""

    step: int
    total_steps: int
    value: float
    image_index: int


class ErrorRead(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    retryable: bool


class TimingsRead(BaseModel):
    """Seconds; ``null`` until known."""

    queue_wait_seconds: float | None
    load_seconds: float | None
    run_seconds: float | None


class AccelerationRead(BaseModel):
    """What made the job faster or smaller than the plain pipeline; ``lossless`` when it changes no bit."""

    name: str
    lossless: bool


class AttemptRead(BaseModel):
    """One run of the job; ``outcome`` is how it ended, ``null`` while it runs."""

    attempt: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error: ErrorRead | None


class JobUrls(BaseModel):
    """Where to go from here; follow these rather than building addresses."""

    self: str
    cancel: str
    grid: str | None


class LegRead(BaseModel):
    """One part of a job's route: who makes ``count`` pictures from index ``first`` on."""

    generator: Generator
    lane: Lane
    model: str
    first: int
    count: int


class EnhancementRead(BaseModel):
    """What was added to the prompt, by a language model (``prompt``) or a reference picture (``ip_adapter_scale``)."""

    by: str
    prompt: str | None
    ip_adapter_scale: float | None


_JOB_EXAMPLE: Final[dict[str, Any]] = {
    "id": "job_01K0A1B2C3D4E5F6G7H8J9KMNP",
    "kind": "generate",
    "status": "succeeded",
    "phase": None,
    "status_seq": 7,
    "model": "demo",
    "generator": "local",
    "generator_reason": "auto: the GPU worker runs on NVIDIA GeForce RTX 5090",
    "route": [{"generator": "local", "lane": "gpu", "model": "demo", "first": 0, "count": 1}],
    "leg": 0,
    "params": {
        "prompt": "a small red circle in the top left on a blue background",
        "num_inference_steps": 4,
        "guidance_scale": 0.0,
        "width": 256,
        "height": 256,
        "seed": 7,
        "num_images": 1,
        "precision": "exact",
        "output_format": "png",
    },
    "enhancement": None,
    "job_class": "normal",
    "priority": 0,
    "not_before": None,
    "deadline": None,
    "held": False,
    "progress": {"step": 4, "total_steps": 4, "value": 1.0, "image_index": 0},
    "queue_position": None,
    "eta_seconds": None,
    "attempt": 1,
    "attempts": [
        {
            "attempt": 1,
            "started_at": "2026-01-01T12:00:00.02Z",
            "ended_at": "2026-01-01T12:00:01.22Z",
            "outcome": "finish",
            "error": None,
        }
    ],
    "error": None,
    "inputs": [],
    "images": [
        {
            "id": "img_01K0A1B2C3D4E5F6G7H8J9KMNP",
            "url": "/api/images/img_01K0A1B2C3D4E5F6G7H8J9KMNP",
            "index": 0,
            "seed": 7,
            "width": 256,
            "height": 256,
            "content_type": "image/png",
            "size_bytes": 5065,
            "generator": "local",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        }
    ],
    "timings": {"queue_wait_seconds": 0.02, "load_seconds": 0.0, "run_seconds": 1.2},
    "accelerations": [],
    "warnings": [],
    "cancel_requested": False,
    "created_at": "2026-01-01T12:00:00Z",
    "started_at": "2026-01-01T12:00:00.02Z",
    "finished_at": "2026-01-01T12:00:01.22Z",
    "urls": {
        "self": "/api/jobs/job_01K0A1B2C3D4E5F6G7H8J9KMNP",
        "cancel": "/api/jobs/job_01K0A1B2C3D4E5F6G7H8J9KMNP/cancel",
        "grid": "/api/jobs/job_01K0A1B2C3D4E5F6G7H8J9KMNP/grid",
    },
}


class JobRead(BaseModel):
    """A job, the same wherever it appears."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB_EXAMPLE]})

    id: str
    kind: JobKind
    status: JobStatus
    phase: Phase | None
    status_seq: int
    model: str
    generator: GeneratorChoice
    generator_reason: str
    route: list[LegRead]
    leg: int
    params: dict[str, Any]
    enhancement: EnhancementRead | None
    job_class: JobClassName
    priority: int
    not_before: datetime | None
    deadline: datetime | None
    held: bool
    progress: ProgressRead
    queue_position: int | None
    """How many go first: in this server's queue or, while the job runs, in that of the Space that makes the image."""
    eta_seconds: float | None
    attempt: int
    attempts: list[AttemptRead]
    error: ErrorRead | None
    inputs: list[InputRead]
    images: list[ImageRead]
    timings: TimingsRead
    accelerations: list[AccelerationRead]
    warnings: list[str]
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    urls: JobUrls


class JobWithImage(JobRead, ImageResponse):
    """A finished job with its first picture inside (``response_format=b64_json``)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_JOB_EXAMPLE, "image_base64": "iVBORw0KGgo..."}]})


class JobPageRead(BaseModel):
    """Newest first; pass ``next_cursor`` as ``cursor`` for the next page."""

    jobs: list[JobRead]
    next_cursor: str | None


class QueueRead(BaseModel):
    """A lane of the queue at one moment; ``next`` holds the first waiting jobs in the order they will run."""

    lane: Lane
    paused: bool
    counts: dict[JobStatus, int]
    running: list[JobRead]
    next: list[JobRead]


class CancelledRead(BaseModel):
    """How many jobs were cancelled."""

    cancelled: int


class CapabilitiesRead(BaseModel):
    """What a generate job may ask of a model beside words and a size."""

    negative_prompt: bool
    samplers: list[str]
    image: bool
    reference: bool


class ModelRead(BaseModel):
    """One model of the catalog and whether the worker can run it."""

    id: str
    kind: JobKind
    title: str
    repo_id: str | None
    licence: str
    licence_url: str | None
    gated: bool
    demo: bool
    available: bool | None
    reason: str
    default: bool
    defaults: dict[str, float]
    limits: dict[str, float]
    capabilities: CapabilitiesRead
    example_prompts: list[str]
    precision: Precision | None
    precision_reason: str
    refused_precisions: dict[Precision, str]


class GeneratorRead(BaseModel):
    """One value of a request's ``generator``: whether it could start a job now, why (not), and what it does."""

    id: GeneratorChoice
    available: bool
    reason: str
    kinds: list[JobKind]
    models: list[str]


class EnhancerRead(BaseModel):
    """What ``enhance: true`` uses."""

    available: bool
    reason: str
    model: str | None


class ModelsRead(BaseModel):
    """The catalog, the defaults per kind and why they were chosen; the generators, and the prompt enhancer."""

    models: list[ModelRead]
    generators: list[GeneratorRead]
    enhancer: EnhancerRead
    defaults: dict[JobKind, str]
    default_reasons: dict[JobKind, str]
    device: str | None
    plan: PlanReport | None


class HealthRead(BaseModel):
    """The process answers."""

    status: str
    version: str


class ReadyRead(BaseModel):
    """Whether a job submitted now would run, part by part."""

    ready: bool
    database: str
    broker: str
    worker: str
    worker_heartbeat_age_seconds: float | None
    remote_worker: str


class ErrorDetail(BaseModel):
    """A stable code, a sentence for people, and machine-readable details."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorBody(BaseModel):
    """Every error of this API looks like this."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "capability",
                        "message": "num_inference_steps is 400; demo takes at most 50.",
                        "details": {"field": "num_inference_steps", "limit": 50},
                    }
                }
            ]
        }
    )

    error: ErrorDetail
