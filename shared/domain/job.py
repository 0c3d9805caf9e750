"""The job as every process sees it: frozen, with aware UTC times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final

from shared.domain.acceleration import Acceleration
from shared.domain.errors import RequestError
from shared.domain.params import InputRole, JobKind, JobParams
from shared.domain.route import Enhancement, Generator, GeneratorChoice, Route
from shared.domain.route import Lane as Lane  # part of a job's vocabulary, wherever it is defined
from shared.domain.status import TERMINAL_STATUSES, JobStatus, Phase

MISSED_HEARTBEATS: Final = 3
"""A worker that is silent for so many of its own heartbeats counts as gone; no lease is shorter."""

MAX_CRASHES: Final = 3
"""A job whose worker died this often is failed with ``worker_crashed`` instead of being run again."""


class JobClass(IntEnum):
    """Coarse order of the queue: a lower class always goes first. Within it, ``priority``: lower first, like nice."""

    INTERACTIVE = 0
    NORMAL = 1
    BACKGROUND = 2


class JobClassName(StrEnum):
    """The classes as they are written on the wire."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    BACKGROUND = "background"

    @property
    def job_class(self) -> JobClass:
        """The class of this name."""
        return JobClass[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """One normalised upload (8-bit RGB for images, L for masks), stored before the job's row."""

    role: InputRole
    path: str
    width: int
    height: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobImage:
    """One published picture; ``path`` is its key in the media storage."""

    id: str
    index: int
    seed: int
    width: int
    height: int
    path: str
    content_type: str
    size_bytes: int
    sha256: str
    generator: Generator = Generator.LOCAL
    """Who made it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why a job failed; ``code`` is stable, ``message`` is for people."""

    code: str
    message: str
    retryable: bool = False
    retry_after_seconds: float | None = None
    """When the cause will be gone, if whoever caused it said so; decides the next try and is not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds spent waiting for the worker, loading weights, and running apart from loading."""

    queue_wait_seconds: float | None = None
    load_seconds: float | None = None
    run_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAttempt:
    """One run of a job; ``outcome`` is the edge it ended with, ``None`` while it runs."""

    attempt: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error: JobError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job may run and what goes before it."""

    job_class: JobClass = JobClass.NORMAL
    priority: int = 0
    """Lower goes first within a class, like nice; -100 to 100."""
    not_before: datetime | None = None
    deadline: datetime | None = None
    """A job that has not started by then is failed with ``deadline_passed``."""

    def check(self, now: datetime) -> None:
        """Return if a job can start at some time from ``now`` on.

        Raises:
          RequestError: the deadline is past, or before ``not_before``.
        """
        if self.deadline is None:
            return
        if self.deadline <= now:
            raise RequestError(
                f"deadline: {self.deadline.isoformat()} is past; it is {now.isoformat(timespec='seconds')}. "
                "Give a later time, or leave it out.",
                field="deadline",
                limit=now.isoformat(),
            )
        if self.not_before is not None and self.deadline < self.not_before:
            raise RequestError(
                f"deadline: {self.deadline.isoformat()} is before not_before, {self.not_before.isoformat()}, "
                "so the job could never start. Give a later deadline or an earlier not_before.",
                field="deadline",
                limit=self.not_before.isoformat(),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A caller's word that equal submits are one; ``body_sha256`` tells whether they are equal."""

    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A validated job about to be stored."""

    id: str
    model: str
    params: JobParams
    route: Route
    generator: GeneratorChoice = GeneratorChoice.LOCAL
    enhancement: Enhancement | None = None
    schedule: Schedule = Schedule()
    warnings: tuple[str, ...] = ()
    inputs: tuple[JobInput, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One submitted request and what became of it."""

    id: str
    kind: JobKind
    status: JobStatus
    phase: Phase | None
    status_seq: int
    lane: Lane
    schedule: Schedule
    held: bool
    model: str
    generator: GeneratorChoice
    """What makes the pictures: one generator, or both sides; never ``auto``, which is decided at submit."""
    route: Route
    enhancement: Enhancement | None
    params: JobParams
    warnings: tuple[str, ...]
    inputs: tuple[JobInput, ...]
    images: tuple[JobImage, ...]
    attempt: int
    attempts: tuple[JobAttempt, ...]
    crashes: int
    errors: int
    """Attempts that ended in a retryable error; crashes and releases are counted apart."""
    owner: str | None
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: JobError | None
    timings: Timings
    accelerations: tuple[Acceleration, ...] = ()

    @property
    def is_terminal(self) -> bool:
        """Whether the job will never change again."""
        return self.status in TERMINAL_STATUSES

    @property
    def prompt(self) -> str:
        """The words the generators get: the enhanced ones where there are any."""
        rewritten = self.enhancement.prompt if self.enhancement else None
        return rewritten or self.params.prompt

    @property
    def leg_params(self) -> JobParams:
        """The parameters of the current leg."""
        return self.route.current.params(self.params)

    def input(self, role: InputRole) -> JobInput:
        """Return the input with this role.

        Raises:
          KeyError: the job has no such input.
        """
        for item in self.inputs:
            if item.role is role:
                return item
        raise KeyError(role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's hold on one attempt: the fencing token that every later write carries."""

    job_id: str
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NextJob:
    """What the next job of a lane very likely is: a hint, never the truth."""

    residency: str
    params: JobParams
    """With the prompt that its generator will get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A running job's position, short-lived and never the truth. ``value`` goes from 0 to 1."""

    attempt: int
    phase: Phase
    step: int
    total_steps: int
    image_index: int = 0
    num_images: int = 1
    remote_position: int | None = None
    """How many go first in a Space's queue, while the current image waits there."""
    remote_eta_seconds: float | None = None
    """How long that queue takes, as the Space estimates it."""

    @property
    def value(self) -> float:
        """Share of all denoising steps of all images that are done, 0..1."""
        total = self.total_steps * self.num_images
        return min(1.0, (self.image_index * self.total_steps + self.step) / total) if total else 0.0
