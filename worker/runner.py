"""Takes the best queued job to its end: claim, prepare, generate, publish, announce."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from PIL import Image

from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.domain.errors import MediaMissing, ServiceError
from shared.domain.job import Claim, Job, JobError, Lane
from shared.domain.status import JobStatus
from shared.storage.base import MediaStorage
from worker.cancellation import JobInterrupted, StopReason, StopSignal
from worker.generators.interface import GenerationOptions, ImageGeneratorInterface
from worker.lease import keep_lease
from worker.retries import retry_pause
from worker.run import JobRun

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How long a claim lasts without a sign of life, how often one is given, and how often a job may fail."""

    lease: timedelta
    heartbeat_seconds: float
    max_attempts: int = 3


class Runner:
    """Knows jobs and an ``ImageGeneratorInterface``; nothing about models or Celery."""

    def __init__(
        self,
        *,
        owner: str,
        lane: Lane,
        generator: ImageGeneratorInterface,
        claims: ClaimRepository,
        storage: MediaStorage,
        channel: ProgressChannel,
        limits: RunnerLimits,
        shutting_down: Callable[[], bool] = lambda: False,
    ) -> None:
        self._owner = owner
        self._lane = lane
        self._generator = generator
        self._claims = claims
        self._storage = storage
        self._channel = channel
        self._limits = limits
        self._shutting_down = shutting_down

    def run_next(self) -> str:
        """Run the best queued job, if there is one; return a line about it for Flower."""
        if self._shutting_down():
            return "shutting down"
        job = self._claims.claim(self._lane, self._owner, self._limits.lease, self._generator.resident())
        if job is None:
            return "nothing to do"
        with structlog.contextvars.bound_contextvars(job_id=job.id, attempt=job.attempt):
            log.info("job started", action="start_job", kind=job.kind, model=job.model)
            outcome = self._attempt(job)
            log.info("job ended", action="end_job", outcome=outcome)
        self._channel.clear(job.id)
        return f"{job.id} {job.kind} {job.model}: {outcome}"

    def _attempt(self, job: Job) -> str:
        """Run one attempt to its recorded end and return the outcome in a word."""
        claim = Claim(job_id=job.id, attempt=job.attempt, owner=self._owner)
        signal = StopSignal(self._shutting_down)
        run = JobRun(job, claim, claims=self._claims, storage=self._storage, channel=self._channel, signal=signal)
        with keep_lease(
            self._claims,
            claim,
            signal,
            lease=self._limits.lease,
            heartbeat_seconds=self._limits.heartbeat_seconds,
        ):
            try:
                self._generator.generate(job.params.prompt, context=run, **self._options(job))
            except JobInterrupted as interruption:
                return self._stop(claim, run, interruption.reason)
            except ServiceError as error:
                return self._fail(job, claim, run, _to_job_error(error))
            except Exception as error:  # whatever a model throws must end this job, not the worker
                log.exception("generator failed", action="generator_failed")
                message = f"{type(error).__name__}: {error}"
                return self._fail(job, claim, run, JobError(code="internal_error", message=message))
            return self._publish(claim, run)

    def _options(self, job: Job) -> GenerationOptions:
        """Return the job's parameters and pictures as keyword arguments of the generator."""
        params = job.params
        options: GenerationOptions = {
            "model": job.model,
            "width": params.width,
            "height": params.height,
            "num_inference_steps": params.num_inference_steps,
            "guidance_scale": params.guidance_scale,
            "seed": params.seed,
            "num_images": params.num_images,
            "precision": params.precision,
        }
        for item in job.inputs:
            options[item.role.value] = self._open(item.path)
        return options

    def _open(self, key: str) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(self._storage.read(key)))
            image.load()
        except OSError as error:
            raise MediaMissing(f"The uploaded picture {key} cannot be read any more: {error}") from error
        return image

    def _publish(self, claim: Claim, run: JobRun) -> str:
        if not self._claims.succeed(claim, run.images, run.timings(), run.warnings, run.accelerations):
            return self._abandon(run)
        return JobStatus.SUCCEEDED.value

    def _fail(self, job: Job, claim: Claim, run: JobRun, error: JobError) -> str:
        run.discard_images()
        pause = retry_pause(job, error, self._limits.max_attempts)
        if pause is not None and self._claims.retry(claim, error, pause):
            return f"{error.code}, tried again in {pause.total_seconds():.0f} s"
        if not self._claims.fail(claim, error, run.timings()):
            return self._abandon(run)
        return f"{JobStatus.FAILED.value} ({error.code})"

    def _stop(self, claim: Claim, run: JobRun, reason: StopReason) -> str:
        run.discard_images()
        if reason is StopReason.USER_REQUEST and self._claims.cancel(claim, run.timings()):
            return JobStatus.CANCELLED.value
        if reason is StopReason.SHUTDOWN and self._claims.release(claim):
            return "released"
        return self._abandon(run)

    def _abandon(self, run: JobRun) -> str:
        """Another worker holds the job by now: leave no trace of this attempt."""
        run.discard_images()
        log.warning("claim lost", action="fenced")
        return "fenced"


def _to_job_error(error: ServiceError) -> JobError:
    return JobError(code=error.code, message=error.message, retryable=error.retryable)
