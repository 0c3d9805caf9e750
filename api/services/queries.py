"""Reads jobs and turns them into what goes over the wire."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from api.addresses import address
from shared.channel.progress import ProgressChannel
from shared.db.jobs import JobFilter, JobRepository
from shared.domain.errors import NotFound
from shared.domain.job import Job, JobAttempt, JobClassName, JobError, JobImage, Progress
from shared.domain.route import Enhancement, Leg
from shared.domain.status import TERMINAL_STATUSES, JobStatus, Phase
from shared.schemas.jobs import (
    AccelerationRead,
    AttemptRead,
    EnhancementRead,
    ErrorRead,
    ImageRead,
    InputRead,
    JobPageRead,
    JobRead,
    JobUrls,
    JobWithImage,
    LegRead,
    ProgressRead,
    TimingsRead,
)
from shared.storage.base import MediaStorage


class JobQueries:
    """One job object everywhere."""

    def __init__(self, jobs: JobRepository, channel: ProgressChannel, storage: MediaStorage) -> None:
        self._jobs = jobs
        self._channel = channel
        self._storage = storage

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
          NotFound: there is none under this id.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id!r}.", id=job_id)
        return job

    def cancel(self, job_id: str) -> JobRead:
        """Ask for a job to stop and return it; one that has ended stays as it is, and a warning says so.

        Raises:
          NotFound: there is none under this id.
        """
        job = self._jobs.request_cancel(job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id!r}.", id=job_id)
        if job.status is JobStatus.RUNNING:
            self._channel.hint_cancel(job_id)
        read = self.present(job)
        if job.status in TERMINAL_STATUSES - {JobStatus.CANCELLED}:
            read.warnings.append(f"the job had already {job.status.value}, so there was nothing to cancel")
        return read

    def image(self, image_id: str) -> JobImage:
        """Return a picture's record.

        Raises:
          NotFound: there is none under this id.
        """
        image = self._jobs.image(image_id)
        if image is None:
            raise NotFound(f"There is no image {image_id!r}.", id=image_id)
        return image

    def page(self, wanted: JobFilter, limit: int, cursor: str | None) -> JobPageRead:
        """Return one page of jobs, newest first."""
        page = self._jobs.page(wanted, limit, cursor)
        return JobPageRead(jobs=self.present_many(page.jobs), next_cursor=page.next_cursor)

    def present(self, job: Job) -> JobRead:
        """Return the wire form of one job, with live progress and queue position."""
        return self.present_many([job])[0]

    def present_with_image(self, job: Job) -> JobWithImage:
        """Return the wire form of a succeeded job with its first picture inside."""
        data = base64.b64encode(self._storage.read(job.images[0].path)).decode()
        return JobWithImage(**dict(self.present(job)), image_base64=data)

    def present_many(self, jobs: Sequence[Job]) -> list[JobRead]:
        """Return the wire forms of several jobs."""
        running = [job.id for job in jobs if job.status is JobStatus.RUNNING]
        progress = self._channel.read_many(running)
        positions = self._jobs.queue_positions(jobs)
        return [_read(job, progress.get(job.id), positions.get(job.id)) for job in jobs]


def _read(job: Job, progress: Progress | None, position: int | None) -> JobRead:
    if progress is not None and progress.attempt != job.attempt:
        progress = None
    return JobRead(
        id=job.id,
        kind=job.kind,
        status=job.status,
        phase=_phase(job, progress),
        status_seq=job.status_seq,
        model=job.model,
        generator=job.generator,
        generator_reason=job.route.reason,
        route=[_read_leg(leg) for leg in job.route.legs],
        leg=job.route.position,
        enhancement=_read_enhancement(job.enhancement),
        params=job.params.model_dump(mode="json", exclude={"kind"}, exclude_none=True),
        job_class=JobClassName[job.schedule.job_class.name],
        priority=job.schedule.priority,
        not_before=job.schedule.not_before,
        deadline=job.schedule.deadline,
        held=job.held,
        progress=_read_progress(job, progress),
        queue_position=position if progress is None else progress.remote_position,
        eta_seconds=None if progress is None else progress.remote_eta_seconds,
        attempt=job.attempt,
        attempts=[_read_attempt(attempt) for attempt in job.attempts],
        error=_read_error(job.error),
        inputs=[InputRead(role=item.role.value, width=item.width, height=item.height) for item in job.inputs],
        images=[_read_image(image) for image in job.images],
        timings=TimingsRead(
            queue_wait_seconds=job.timings.queue_wait_seconds,
            load_seconds=job.timings.load_seconds,
            run_seconds=job.timings.run_seconds,
        ),
        accelerations=[AccelerationRead(name=item.name, lossless=item.lossless) for item in job.accelerations],
        warnings=list(job.warnings),
        cancel_requested=job.cancel_requested_at is not None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        urls=_urls(job),
    )


def _urls(job: Job) -> JobUrls:
    own = address(f"/api/jobs/{job.id}")
    return JobUrls(
        self=own,
        cancel=f"{own}/cancel",
        preview=None if job.is_terminal else f"{own}/preview",
        grid=f"{own}/grid" if len(job.images) > 1 else None,
    )


def _read_leg(leg: Leg) -> LegRead:
    return LegRead(generator=leg.generator, lane=leg.lane, model=leg.model, first=leg.first, count=leg.count)


def _read_enhancement(enhancement: Enhancement | None) -> EnhancementRead | None:
    return EnhancementRead(**dict(enhancement)) if enhancement else None


def _read_attempt(attempt: JobAttempt) -> AttemptRead:
    return AttemptRead(
        attempt=attempt.attempt,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        outcome=attempt.outcome,
        error=_read_error(attempt.error),
    )


def _read_error(error: JobError | None) -> ErrorRead | None:
    return ErrorRead(code=error.code, message=error.message, retryable=error.retryable) if error else None


def _phase(job: Job, progress: Progress | None) -> Phase | None:
    """Return what the run does now; saving is in the row only, since there are no steps to report of it."""
    return job.phase if progress is None or job.phase is Phase.SAVING else progress.phase


def _read_progress(job: Job, progress: Progress | None) -> ProgressRead:
    total_steps = job.leg_params.num_inference_steps
    if job.status is JobStatus.SUCCEEDED:
        return ProgressRead(step=total_steps, total_steps=total_steps, value=1.0, image_index=job.params.num_images - 1)
    if progress is None:
        return ProgressRead(step=0, total_steps=total_steps, value=0.0, image_index=0)
    return ProgressRead(
        step=progress.step,
        total_steps=progress.total_steps,
        value=round(progress.value, 4),
        image_index=progress.image_index,
    )


def _read_image(image: JobImage) -> ImageRead:
    return ImageRead(
        id=image.id,
        url=address(f"/api/images/{image.id}"),
        index=image.index,
        seed=image.seed,
        width=image.width,
        height=image.height,
        content_type=image.content_type,
        size_bytes=image.size_bytes,
        sha256=image.sha256,
        generator=image.generator,
    )
