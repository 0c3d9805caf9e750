"""The job as it goes over the wire, with its parts; answers always carry every field."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from shared.domain.job import JobClassName
from shared.domain.params import JobKind
from shared.domain.route import Generator, GeneratorChoice, Lane
from shared.domain.status import JobStatus, Phase


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
    preview: str | None
    """A small picture of what is being made; unset once the job has ended."""
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
        "preview": None,
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
