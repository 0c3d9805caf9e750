"""Accepts a job: choose the model, check everything, store inputs, commit the row, ring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from api.services.generators import Asked, GeneratorService
from api.services.room import Room
from api.services.uploads import Picture
from shared.broker.publish import Doorbell
from shared.clock import Clock, utc_now
from shared.db.jobs import JobRepository
from shared.domain.errors import MediaError
from shared.domain.job import IdempotencyKey, Job, JobInput, NewJob, Schedule
from shared.domain.params import InputRole, JobKind
from shared.domain.route import Routing
from shared.ids import new_job_id
from shared.storage.base import MediaStorage

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller asks for; ``asked`` holds only the parameters they set."""

    kind: JobKind
    model: str | None
    asked: Mapping[str, Any]
    pictures: Sequence[Picture] = ()
    schedule: Schedule = field(default_factory=Schedule)
    idempotency_key: str | None = None
    routing: Routing = field(default_factory=Routing)

    def key(self) -> IdempotencyKey | None:
        """Return the caller's key with a digest of everything that makes this request what it is."""
        if self.idempotency_key is None:
            return None
        body = {
            "kind": self.kind,
            "model": self.model,
            "asked": dict(self.asked),
            "pictures": [(picture.role, hashlib.sha256(picture.png).hexdigest()) for picture in self.pictures],
            "schedule": asdict(self.schedule),
            "routing": asdict(self.routing),
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode())
        return IdempotencyKey(key=self.idempotency_key, body_sha256=digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Accepted:
    """The stored job, and whether an earlier request with the same idempotency key had stored it."""

    job: Job
    is_replay: bool


class SubmissionService:
    """After ``submit`` returns, the job is accepted for good."""

    def __init__(
        self,
        jobs: JobRepository,
        generators: GeneratorService,
        storage: MediaStorage,
        room: Room,
        doorbell: Doorbell,
        max_queued_jobs: int,
        clock: Clock = utc_now,
    ) -> None:
        self._jobs = jobs
        self._generators = generators
        self._storage = storage
        self._room = room
        self._doorbell = doorbell
        self._max_queued_jobs = max_queued_jobs
        self._clock = clock

    def submit(self, submission: Submission) -> Accepted:
        """Store and enqueue a job; on any error nothing is left behind. What was accepted before is only returned.

        Raises:
          IdempotencyConflict: the key was used for another request.
          RequestError: the request cannot be served; names the field.
          CapacityError: the queue is full.
          Unavailable: no model was named and no worker has said yet which one is the default.
          StorageFull: there is no room for more pictures.
        """
        key = submission.key()
        if key is not None and (known := self._jobs.behind(key)) is not None:
            return Accepted(known, is_replay=True)
        submission.schedule.check(self._clock())
        self._room.check()
        plan = self._generators.plan(_asked(submission))
        job_id = new_job_id()
        inputs = tuple(_describe(job_id, picture) for picture in submission.pictures)
        notes = (note for picture in submission.pictures for note in picture.warnings)
        new_job = NewJob(
            id=job_id,
            model=plan.model,
            params=plan.params,
            generator=plan.generator,
            route=plan.route,
            enhancement=plan.enhancement,
            warnings=(*notes, *plan.warnings),
            schedule=submission.schedule,
            inputs=inputs,
        )
        job = self._store(new_job, submission.pictures, key)
        if job.id != job_id:
            return Accepted(job, is_replay=True)
        self._doorbell.ring(job.id, job.kind, job.lane)
        log.info(
            "job accepted",
            action="submit_job",
            job_id=job.id,
            kind=job.kind,
            model=job.model,
            generator=job.generator,
            reason=job.route.reason,
        )
        return Accepted(job, is_replay=False)

    def _store(self, job: NewJob, pictures: Sequence[Picture], key: IdempotencyKey | None) -> Job:
        """Write inputs, then the row; delete the inputs again when no row of this job came of it."""
        stored: Job | None = None
        try:
            for item, picture in zip(job.inputs, pictures, strict=True):
                self._storage.put(item.path, picture.png)
            if key is None:
                stored = self._jobs.add(job, self._max_queued_jobs)
            else:
                stored = self._jobs.add_once(job, self._max_queued_jobs, key)
            return stored
        finally:
            if stored is None or stored.id != job.id:
                for item in job.inputs:
                    self._storage.delete(item.path)


def _asked(submission: Submission) -> Asked:
    return Asked(
        kind=submission.kind,
        model=submission.model,
        values=submission.asked,
        routing=submission.routing,
        source_size=_check_pictures(submission.pictures),
        has_reference=any(picture.role is InputRole.REFERENCE for picture in submission.pictures),
        has_pictures=bool(submission.pictures),
    )


def _check_pictures(pictures: Sequence[Picture]) -> tuple[int, int] | None:
    by_role = {picture.role: picture for picture in pictures}
    image, mask = by_role.get(InputRole.IMAGE), by_role.get(InputRole.MASK)
    if image is None:
        return None
    size = (image.width, image.height)
    if mask is not None and (mask.width, mask.height) != size:
        raise MediaError(
            f"mask: it is {mask.width}x{mask.height}, the image {size[0]}x{size[1]}; they must be of one size.",
            field="mask",
        )
    return size


def _describe(job_id: str, picture: Picture) -> JobInput:
    return JobInput(
        role=picture.role,
        path=f"{job_id}/input-{picture.role.value}.png",
        width=picture.width,
        height=picture.height,
        size_bytes=len(picture.png),
        sha256=hashlib.sha256(picture.png).hexdigest(),
    )
