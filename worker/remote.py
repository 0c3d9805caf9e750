"""The composition root of a remote worker: jobs that wait for a network instead of the GPU. Imports no torch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from shared.broker.app import make_ringing_celery
from shared.broker.publish import Doorbell
from shared.channel.progress import ProgressChannel
from shared.clock import utc_now
from shared.db.claims import ClaimRepository
from shared.db.engine import Database, open_database
from shared.db.migrate import check_schema
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.domain.report import RemoteReport, SpaceReport
from shared.domain.switcher import CONFIGURE_SPACE
from shared.ids import new_owner_id
from shared.settings import OutsideSettings, WorkerSettings
from shared.storage.local import LocalMediaStorage
from worker.budgets import Budgets
from worker.engine_start import RETRY_SECONDS, make_engine
from worker.enhancers.openai_chat import OpenAIChatEnhancer
from worker.generators.unavailable import UnavailableGenerator
from worker.presence import Presence
from worker.runner import Runner, RunnerLimits
from worker.shutdown import Shutdown

if TYPE_CHECKING:
    from worker.generators.flux_client import FluxClientAdapter

log = structlog.get_logger(__name__)

_SLACK_SECONDS: Final = 60.0
"""How much later than a call's own deadline the watchdog acts: it is for what the deadline does not end."""


class RemoteWorker:
    """One of several equal processes; their leases alone tell who is alive. Create it after the fork.

    It asks nobody outside before a job needs it.
    """

    def __init__(self, settings: WorkerSettings, outside: OutsideSettings, shutdown: Shutdown) -> None:
        self._settings = settings
        self._outside = outside
        self._shutdown = shutdown
        self._owner = new_owner_id()
        self._space: FluxClientAdapter | None = None
        self._published: RemoteReport | None = None
        self._database: Database | None = None
        self._presence: Presence | None = None
        self._runner: Runner | None = None
        self._doorbell: Doorbell | None = None

    def start(self) -> None:
        """Join the lane and say what is configured.

        Raises:
          SchemaMismatch: the database belongs to another version.
          EngineFailed: what speaks to a Space cannot be had; raised after a pause, during which the row says why.
        """
        database = self._database = open_database(self._settings.resolved_database_url)
        check_schema(database)
        presence = self._presence = Presence(
            WorkerRepository(database), self._owner, Lane.REMOTE, self._settings.heartbeat_seconds
        )
        presence.join()
        space = self._space = make_engine(self._make_space, presence, self._shutdown, RETRY_SECONDS)
        doorbell = self._doorbell = Doorbell(make_ringing_celery(self._settings.resolved_redis_url))
        self._runner = Runner(
            owner=self._owner,
            lane=Lane.REMOTE,
            generator=space or UnavailableGenerator(f"There is no remote generator: {CONFIGURE_SPACE}."),
            enhancer=OpenAIChatEnhancer.from_settings(self._outside),
            claims=ClaimRepository(database),
            storage=LocalMediaStorage(self._settings.media_dir),
            channel=ProgressChannel(self._settings.resolved_redis_url),
            limits=_limits(self._settings, self._outside),
            ring=doorbell.ring,
            shutdown=self._shutdown,
        )
        self._publish(presence)
        presence.become(WorkerState.IDLE)

    def run_next(self) -> str:
        """Run the best queued job; see ``Runner.run_next``. Afterwards, tell what it taught about the Space."""
        if self._runner is None or self._presence is None:
            raise RuntimeError("RemoteWorker.run_next before start")
        with self._presence.during(WorkerState.BUSY):
            line = self._runner.run_next()
        self._publish(self._presence)
        return line

    def close(self) -> None:
        """Finish saving and say goodbye."""
        if self._runner is not None:
            self._runner.close()
        if self._doorbell is not None:
            self._doorbell.close()
        if self._presence is not None:
            self._presence.leave()
        if self._database is not None:
            self._database.dispose()

    def _make_space(self) -> FluxClientAdapter | None:
        from worker.generators.flux_client import FluxClientAdapter  # with gradio_client

        return FluxClientAdapter.from_settings(self._outside)

    def _publish(self, presence: Presence) -> None:
        report = RemoteReport(space=self._space_report(), enhancer=self._outside.enhancer_name)
        if report != self._published:
            presence.publish(report)
            self._published = report

    def _space_report(self) -> SpaceReport | None:
        if self._space is None:
            return None
        known = self._space.availability()
        before = self._published.space if self._published else None
        said = {"available": known.available, "reason": known.reason, "until": known.until}
        if before is not None and before.model_dump(exclude={"learned_at"}) == said:
            return before
        return SpaceReport(**said, learned_at=None if self._published is None else utc_now())


def _limits(settings: WorkerSettings, outside: OutsideSettings) -> RunnerLimits:
    """Return limits above the deadlines that every call outside has of its own."""
    call = outside.remote_call_seconds + _SLACK_SECONDS
    return RunnerLimits(
        timedelta(seconds=settings.lease_seconds),
        settings.heartbeat_seconds,
        settings.max_attempts,
        Budgets(
            load_seconds=max(call, outside.remote_connect_seconds + _SLACK_SECONDS),
            first_step_seconds=call,
            step_seconds=call,
            phase_seconds=max(settings.phase_budget_seconds, call, outside.enhancer_timeout_seconds + _SLACK_SECONDS),
        ),
    )
