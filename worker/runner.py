"""Takes the best queued job to its end: claim, prepare, generate here; publish and announce in the saver's thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from shared.catalog import find_model
from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.domain.errors import DeviceLost, ModelUnavailable
from shared.domain.job import Claim, Job, Lane
from shared.domain.route import Generator
from shared.domain.status import Phase
from shared.storage.base import MediaStorage
from worker.budgets import Budgets, RunWatch, StepTimes
from worker.cancellation import StopSignal
from worker.emergency import Emergency, end_process
from worker.enhancers.interface import EnhancerInterface
from worker.enhancing import enhance_prompt
from worker.generators.interface import GenerationOptions, ImageGeneratorInterface
from worker.job_options import generation_options
from worker.lease import LeaseKeeper
from worker.outcomes import Outcomes, Ring
from worker.previews import PreviewSender
from worker.run import JobRun
from worker.saver import Saver
from worker.shutdown import Shutdown
from worker.watchdog import Watchdog

log = structlog.get_logger(__name__)

NOTHING_TO_DO: Final = "nothing to do"


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How long a claim lasts, how often it is renewed, how often a job may fail, and when it counts as hung."""

    lease: timedelta
    heartbeat_seconds: float
    max_attempts: int = 3
    budgets: Budgets = field(default_factory=Budgets)


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
        enhancer: EnhancerInterface | None = None,
        previews: PreviewSender | None = None,
        ring: Ring = lambda *_: None,
        shutdown: Shutdown | None = None,
        on_storage_failed: Callable[[], None] = lambda: None,
        end_process: Callable[[str], None] = end_process,
    ) -> None:
        self._owner = owner
        self._lane = lane
        self._generator = generator
        self._enhancer = enhancer
        self._previews = previews
        self._claims = claims
        self._storage = storage
        self._channel = channel
        self._limits = limits
        self._shutdown = shutdown = shutdown or Shutdown()
        self._outcomes = Outcomes(claims, limits.max_attempts, shutdown, on_storage_failed, ring)
        self._leases = LeaseKeeper(claims, limits.lease, limits.heartbeat_seconds)
        self._saver = Saver()
        self._emergency = Emergency(claims, self._saver, limits.budgets.phase_seconds, end_process)
        self._watchdog = Watchdog(self._emergency.on_hang)
        self._step_times = StepTimes()
        self._saving: futures.Future[None] | None = None

    def run_next(self) -> str:
        """Run the best queued job, if there is one, until its pixels exist; return a line about it for Flower."""
        if self._shutdown.is_asked():
            return "shutting down"
        job = self._claims.claim(self._lane, self._owner, self._limits.lease, self._generator.resident())
        if job is None:
            return NOTHING_TO_DO
        with structlog.contextvars.bound_contextvars(job_id=job.id, attempt=job.attempt), ExitStack() as alive:
            log.info("job started", action="start_job", kind=job.kind, model=job.route.current.model)
            run = self._begin(job, alive)
            outcome = self._outcomes.conclude(run, partial(self._paint, run))
            if outcome is None:
                self._saving = self._saver.start(self._save, run)
                self._saver.start(alive.pop_all().close)
                outcome = "saving"
            else:
                log.info("job ended", action="end_job", outcome=outcome)
        return f"{job.id} {job.kind} {job.route.current.model}: {outcome}"

    def try_out(self, model: str) -> None:
        """Make one small picture in one step without a job; a hang or a lost device ends the process as usual.

        Raises:
          ServiceError, RuntimeError: it did not work.
        """
        side = find_model(model).limits.min_side
        small: GenerationOptions = {"model": model, "width": side, "height": side, "num_inference_steps": 1, "seed": 0}
        with self._watchdog.watch(None) as watch:
            watch.expect("self-test", self._limits.budgets.load_seconds + self._limits.budgets.first_step_seconds)
            try:
                self._generator.generate("a circle", **small)
            except ModelUnavailable as error:  # nothing to try; jobs for it end in the same words
                log.warning("no model to try out", action="self_test_skipped", error=error.message)
            except DeviceLost as lost:
                self._emergency.on_device_lost(None, lost)
                raise

    def close(self) -> None:
        """Wait until the last job is saved and published."""
        self._saver.close()
        if self._previews is not None:
            self._previews.close()
        self._leases.close()
        self._watchdog.close()

    def _begin(self, job: Job, alive: ExitStack) -> JobRun:
        """Return the run of a claimed job, under a lease that is kept until ``alive`` is closed."""
        claim = Claim(job_id=job.id, attempt=job.attempt, owner=self._owner)
        signal = StopSignal(self._shutdown.is_due)
        alive.callback(self._channel.clear, job.id)
        alive.enter_context(self._leases.keep(claim, signal))
        watch = alive.enter_context(self._watchdog.watch(claim))
        previews = None if self._previews is None else alive.enter_context(closing(self._previews.follow(claim)))
        return JobRun(
            job,
            claim,
            claims=self._claims,
            storage=self._storage,
            channel=self._channel,
            saver=self._saver,
            signal=signal,
            watch=RunWatch(self._watchdog, watch, self._limits.budgets, self._step_times, job),
            previews=previews,
        )

    def _paint(self, run: JobRun) -> str | None:
        """Do the current leg, and wait for the job before to be saved."""
        run.on_phase(Phase.LOADING)
        self._generator.expect(partial(self._claims.next_job, self._lane))
        try:
            self._work(run)
        except DeviceLost as lost:
            self._emergency.on_device_lost(run.claim, lost)
            return lost.code
        run.wait_for_saver()
        if self._saving is not None:
            futures.wait([self._saving])
        self._outcomes.record(run.begin_saving)
        return None

    def _save(self, run: JobRun) -> None:
        """End the attempt; runs in the saver's thread, after the pictures it was handed before."""
        outcome = self._outcomes.conclude(run, partial(self._outcomes.publish, run))
        log.info("job ended", action="end_job", outcome=outcome)

    def _work(self, run: JobRun) -> None:
        if run.job.route.current.generator is Generator.ENHANCER:
            enhance_prompt(run, self._enhancer)
        else:
            options = generation_options(run.job, self._storage)
            run.source = options.get("image")
            self._generator.generate(run.job.prompt, context=run, **options)
