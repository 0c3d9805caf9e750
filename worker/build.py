"""The composition root of the GPU worker: the only place that knows all its parts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog

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
from shared.domain.errors import ServiceError
from shared.domain.job import Lane
from shared.domain.params import JobKind
from shared.domain.report import WorkerReport
from shared.ids import new_owner_id
from shared.settings import WorkerSettings
from shared.storage.base import MediaStorage
from shared.storage.local import LocalMediaStorage
from worker.allocator_settings import prefer_expandable_segments
from worker.budgets import Budgets
from worker.generators.interface import ImageGeneratorInterface
from worker.gpu_lock import GpuLock
from worker.presence import Presence
from worker.previews import PreviewSender
from worker.runner import Runner, RunnerLimits
from worker.self_test import SelfTest
from worker.shutdown import Shutdown

log = structlog.get_logger(__name__)

_WARMED: Final = (JobKind.EDIT, JobKind.GENERATE)
"""The last one is in place for the first job."""

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
    ) -> None:
        self._settings = settings
        self._make_generator = make_generator
        self._shutdown = shutdown or Shutdown()
        self._clock = clock
        self._make_claims = make_claims
        self._make_storage = make_storage
        self._owner = new_owner_id()
        self._lock = GpuLock(settings.gpu_lock_path)
        self._database: Database | None = None
        self._presence: Presence | None = None
        self._runner: Runner | None = None
        self._self_test: SelfTest | None = None
        self._doorbell: Doorbell | None = None

    def start(self) -> None:
        """Take the GPU, rescue what dead workers left running, publish the catalog, warm the default models.

        Raises:
          SchemaMismatch: the database belongs to another version.
        """
        database = self._database = open_database(self._settings.resolved_database_url)
        check_schema(database)
        self._lock.acquire()
        rescues = RescueRepository(database, self._clock)
        presence = self._presence = Presence(
            WorkerRepository(database, self._clock), self._owner, Lane.GPU, self._settings.heartbeat_seconds
        )
        presence.join()
        if rescued := rescues.rescue_others(Lane.GPU, self._owner):
            log.warning("rescued jobs of a dead worker", action="rescue", jobs=rescued)
        generator, report = self._make_generator()
        presence.publish(report)
        self._warm(generator, report)
        storage = self._make_storage(self._settings.media_dir)
        default_model = report.defaults[JobKind.GENERATE].model
        self_test = self._self_test = SelfTest(
            {"device": lambda: runner.try_out(default_model), "storage": storage.check}
        )
        if rescues.crashed_lately(Lane.GPU):
            self_test.doubt("device")
        doorbell = self._doorbell = Doorbell(make_ringing_celery(self._settings.resolved_redis_url))
        runner = self._runner = Runner(
            owner=self._owner,
            lane=Lane.GPU,
            generator=generator,
            claims=self._make_claims(database, self._clock),
            storage=storage,
            channel=ProgressChannel(self._settings.resolved_redis_url),
            limits=_limits(self._settings),
            previews=_previews(self._settings),
            ring=doorbell.ring,
            shutdown=self._shutdown,
            on_storage_failed=partial(self_test.doubt, "storage"),
        )
        presence.become(WorkerState.IDLE)
        self._ring_for_lost(RingRepository(database, self._clock), doorbell)

    def run_next(self) -> str:
        """Run the best queued job; see ``Runner.run_next``. While the self-test fails, run none."""
        if self._runner is None or self._presence is None or self._self_test is None:
            raise RuntimeError("GpuWorker.run_next before start")
        if trouble := self._self_test.trouble():
            self._presence.become(WorkerState.UNHEALTHY, trouble)
            return f"nothing claimed, since the self-test failed: {trouble}"
        with self._presence.during(WorkerState.BUSY):
            return self._runner.run_next()

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

    def _warm(self, generator: ImageGeneratorInterface, report: WorkerReport) -> None:
        if not self._settings.warm_models or self._presence is None:
            return
        self._presence.become(WorkerState.WARMING)
        for kind in _WARMED:
            model = report.defaults[kind].model
            try:
                generator.warm(model, report.precision_of(model))
            except ServiceError as error:  # jobs for it will say the same; other models may work
                log.error("cannot warm a default model", action="warm_failed", model=model, error=error.message)


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
    """Return the local generator and what it can run; imports torch."""
    prefer_expandable_segments()
    from worker.generators.local import LocalGenerator
    from worker.generators.unavailable import UnavailableGenerator
    from worker.pipelines.device import DeviceUnavailable
    from worker.pipelines.resident import pipeline_store
    from worker.pipelines.selection import nothing_runs, worker_report

    settings = WorkerSettings()
    try:
        store = pipeline_store()
    except DeviceUnavailable as error:
        log.error("no generator", action="no_device", error=str(error))
        return UnavailableGenerator(str(error)), nothing_runs(settings, str(error))
    report = worker_report(settings, store.device, store.weights, store.speed.report, store.shortage)
    return LocalGenerator(store), report
