"""The composition root of the GPU worker: the only place that knows all its parts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared.broker.app import make_ringing_celery
from shared.broker.publish import QUIET, Doorbell
from shared.channel.previews import PreviewChannel
from shared.channel.progress import ProgressChannel
from shared.clock import Clock, utc_now
from shared.db.claims import ClaimRepository
from shared.db.engine import Database, open_database
from shared.db.migrate import check_schema
from shared.db.rescues import RescueRepository
from shared.db.rings import RingRepository
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.domain.params import JobKind
from shared.domain.report import WorkerReport
from shared.ids import new_owner_id
from shared.settings import WorkerSettings
from shared.storage.base import MediaStorage
from shared.storage.local import LocalMediaStorage
from worker.allocator_settings import prefer_expandable_segments
from worker.budgets import Budgets
from worker.engine_start import RETRY_SECONDS, make_engine, trouble_before
from worker.generators.interface import ImageGeneratorInterface
from worker.gpu_lock import GpuLock
from worker.presence import Presence
from worker.previews import PreviewSender
from worker.runner import NOTHING_TO_DO, Runner, RunnerLimits
from worker.self_test import SelfTest
from worker.shutdown import Shutdown
from worker.warming import Warming

log = structlog.get_logger(__name__)

_WARM_UP: Final = "warm-up"
"""Rung for instead of a job, so that models are loaded while no job waits."""

_LOST_AT_MOST: Final = 2
"""One that was denoised and one that was saved."""

MakeGenerator = Callable[[], tuple[ImageGeneratorInterface, WorkerReport]]
MakeClaims = Callable[[Database, Clock], ClaimRepository]
MakeStorage = Callable[[Path], MediaStorage]


class GpuWorker:
    """One prefork child: owns the GPU from ``start`` to ``close``. Create it after the fork."""

    def __init__(
        self,
        settings: WorkerSettings,
        make_generator: MakeGenerator,
        shutdown: Shutdown | None = None,
        *,
        clock: Clock = utc_now,
        make_claims: MakeClaims = ClaimRepository,
        make_storage: MakeStorage = LocalMediaStorage,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._settings = settings
        self._make_generator = make_generator
        self._shutdown = shutdown or Shutdown()
        self._clock = clock
        self._make_claims = make_claims
        self._make_storage = make_storage
        self._retry_seconds = retry_seconds
        self._owner = new_owner_id()
        self._lock = GpuLock(settings.gpu_lock_path)
        self._database: Database | None = None
        self._presence: Presence | None = None
        self._runner: Runner | None = None
        self._self_test: SelfTest | None = None
        self._doorbell: Doorbell | None = None
        self._claims: ClaimRepository | None = None
        self._warming: Warming | None = None
        self._rung_for_models_at = -math.inf

    def start(self) -> None:
        """Take the GPU, rescue what dead workers left running, publish the catalog, load the first default model.

        Raises:
          SchemaMismatch: the database belongs to another version.
          EngineFailed: no generator can be made; raised after a pause, during which the worker's row says why.
        """
        database = self._database = open_database(self._settings.resolved_database_url)
        check_schema(database)
        self._lock.acquire()
        rescues, workers = RescueRepository(database, self._clock), WorkerRepository(database, self._clock)
        presence = self._presence = Presence(workers, self._owner, Lane.GPU, self._settings.heartbeat_seconds)
        presence.join(trouble_before(workers, Lane.GPU, self._clock))
        if rescued := rescues.rescue_others(Lane.GPU, self._owner):
            log.warning("rescued jobs of a dead worker", action="rescue", jobs=rescued)
        generator, report = make_engine(self._make_generator, presence, self._shutdown, self._retry_seconds)
        presence.publish(report)
        storage = self._make_storage(self._settings.media_dir)
        default_model = report.defaults[JobKind.GENERATE].model
        self_test = self._self_test = SelfTest(
            {"device": lambda: runner.try_out(default_model), "storage": storage.check}
        )
        if rescues.crashed_lately(Lane.GPU):
            self_test.doubt("device")
        doorbell = self._doorbell = Doorbell(make_ringing_celery(self._settings.resolved_redis_url))
        claims = self._claims = self._make_claims(database, self._clock)
        channel = ProgressChannel(self._settings.resolved_redis_url)
        runner = self._runner = Runner(
            owner=self._owner,
            lane=Lane.GPU,
            generator=generator,
            claims=claims,
            storage=storage,
            channel=channel,
            limits=_limits(self._settings),
            previews=_previews(self._settings),
            ring=doorbell.ring,
            shutdown=self._shutdown,
            on_storage_failed=partial(self_test.doubt, "storage"),
        )
        if self._settings.warm_models:
            self._warming = Warming(generator, report, channel, partial(self_test.doubt, "device"))
            self._warming.load_next(self._shutdown.is_asked)
        presence.become(WorkerState.IDLE)
        self._ring_for_lost(RingRepository(database, self._clock), doorbell)
        self._ring_for_models(doorbell)

    def run_next(self) -> str:
        """Run the best queued job, see ``Runner.run_next``; with none, load a default model that is not there yet.

        While the self-test fails, do neither.
        """
        if self._runner is None or self._presence is None or self._self_test is None or self._doorbell is None:
            raise RuntimeError("GpuWorker.run_next before start")
        if trouble := self._self_test.trouble():
            self._presence.become(WorkerState.UNHEALTHY, trouble)
            return f"nothing claimed, since the self-test failed: {trouble}"
        with self._presence.during(WorkerState.BUSY):
            line = self._runner.run_next()
        if line == NOTHING_TO_DO and self._warming is not None and self._warming.is_left:
            with self._presence.during(WorkerState.WARMING):
                line = self._warming.load_next(self._has_more_urgent_work)
            self._ring_for_models(self._doorbell)
        elif time.monotonic() - self._rung_for_models_at > QUIET.total_seconds():  # that ring may be lost
            self._ring_for_models(self._doorbell)
        return line

    def close(self) -> None:
        """Finish saving, say goodbye and let the next process have the GPU."""
        if self._runner is not None:
            self._runner.close()
        if self._doorbell is not None:
            self._doorbell.close()
        if self._presence is not None:
            self._presence.leave()
        if self._database is not None:
            self._database.dispose()
        self._lock.release()

    def _ring_for_lost(self, rings: RingRepository, doorbell: Doorbell) -> None:
        """Ring for what a dead worker ran: its bells died with it, and the reconciler may take seconds."""
        for job_id, kind in rings.due_for_ring(Lane.GPU, _LOST_AT_MOST, QUIET):
            doorbell.ring(job_id, JobKind(kind), Lane.GPU)

    def _ring_for_models(self, doorbell: Doorbell) -> None:
        """Ask for one more turn while default models are not loaded; a job that waits by then takes it first."""
        if self._warming is not None and self._warming.is_left and not self._shutdown.is_asked():
            self._rung_for_models_at = time.monotonic()
            doorbell.ring(_WARM_UP, JobKind.GENERATE, Lane.GPU)

    def _has_more_urgent_work(self) -> bool:
        if self._shutdown.is_asked():
            return True
        try:
            return self._claims is not None and self._claims.next_job(Lane.GPU) is not None
        except SQLAlchemyError as error:
            log.warning("cannot look for waiting jobs", action="look_failed", error=str(error))
            return False


def _previews(settings: WorkerSettings) -> PreviewSender | None:
    interval = settings.preview_interval_seconds
    return PreviewSender(PreviewChannel(settings.resolved_redis_url), interval) if interval > 0 else None


def _limits(settings: WorkerSettings) -> RunnerLimits:
    return RunnerLimits(
        timedelta(seconds=settings.lease_seconds),
        settings.heartbeat_seconds,
        settings.max_attempts,
        Budgets(
            settings.load_budget_seconds,
            settings.first_step_budget_seconds,
            settings.step_budget_seconds,
            settings.phase_budget_seconds,
        ),
    )


def make_local_generator() -> tuple[ImageGeneratorInterface, WorkerReport]:
    """Return the local generator and what it can run; imports torch, so call it after the fork.

    Raises:
      DeviceUnavailable: the device or the attention backend that the settings demand is not to be had.
      Exception: whatever else keeps torch and its companions from working here.
    """
    prefer_expandable_segments()
    from worker.generators.local import LocalGenerator
    from worker.pipelines.resident import pipeline_store
    from worker.pipelines.selection import worker_report

    store = pipeline_store()
    report = worker_report(WorkerSettings(), store.device, store.weights, store.speed.report, store.shortage)
    return LocalGenerator(store), report
