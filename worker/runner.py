"""Takes the best queued job to its end: claim, prepare, generate here; publish and announce in the saver's thread."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from PIL import Image

from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.domain.errors import MediaMissing
from shared.domain.job import Claim, Job, Lane
from shared.storage.base import MediaStorage
from worker.cancellation import StopSignal
from worker.generators.interface import GenerationOptions, ImageGeneratorInterface
from worker.lease import keep_lease
from worker.outcomes import Outcomes
from worker.run import JobRun
from worker.saver import Saver

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How long a claim lasts without a sign of life, how often one is given, and how often a job may fail."""

    lease: timedelta
    heartbeat_seconds: float
    max_attempts: int = 3


class Runner:
    """Knows jobs and an ``ImageGeneratorInterface``; nothing about models or Celery.

    At most one attempt is before the phase ``saving`` and at most one is in it.
    """

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
        self._outcomes = Outcomes(claims, limits.max_attempts, shutting_down)
        self._saver = Saver()
        self._saving: futures.Future[None] | None = None

    def run_next(self) -> str:
        """Run the best queued job, if there is one, until its pixels exist; return a line about it for Flower."""
        if self._shutting_down():
            return "shutting down"
        job = self._claims.claim(self._lane, self._owner, self._limits.lease, self._generator.resident())
        if job is None:
            return "nothing to do"
        with structlog.contextvars.bound_contextvars(job_id=job.id, attempt=job.attempt), ExitStack() as alive:
            log.info("job started", action="start_job", kind=job.kind, model=job.model)
            run = self._begin(job, alive)
            outcome = self._outcomes.conclude(run, partial(self._paint, run))
            if outcome is None:
                self._saving = self._saver.start(self._save, run, alive.pop_all())
                outcome = "saving"
            else:
                log.info("job ended", action="end_job", outcome=outcome)
        return f"{job.id} {job.kind} {job.model}: {outcome}"

    def close(self) -> None:
        """Wait until the last job is saved and published."""
        self._saver.close()

    def _begin(self, job: Job, alive: ExitStack) -> JobRun:
        """Return the run of a claimed job, under a lease that is kept until ``alive`` is closed."""
        claim = Claim(job_id=job.id, attempt=job.attempt, owner=self._owner)
        signal = StopSignal(self._shutting_down)
        alive.callback(self._channel.clear, job.id)
        alive.enter_context(
            keep_lease(
                self._claims,
                claim,
                signal,
                lease=self._limits.lease,
                heartbeat_seconds=self._limits.heartbeat_seconds,
            )
        )
        return JobRun(
            job,
            claim,
            claims=self._claims,
            storage=self._storage,
            channel=self._channel,
            saver=self._saver,
            signal=signal,
        )

    def _paint(self, run: JobRun) -> None:
        """Generate, and wait for the job before to be saved."""
        self._generator.generate(run.job.params.prompt, context=run, **self._options(run.job))
        if self._saving is not None:
            futures.wait([self._saving])
        self._outcomes.record(run.begin_saving)

    def _save(self, run: JobRun, alive: ExitStack) -> None:
        """End the attempt; runs in the saver's thread, after the pictures it was handed before."""
        with alive:
            outcome = self._outcomes.conclude(run, partial(self._outcomes.publish, run))
            log.info("job ended", action="end_job", outcome=outcome)

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
