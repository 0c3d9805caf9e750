"""What is known about the generators right now, from the settings and the workers' rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from shared.clock import Clock, utc_now
from shared.db.queue import QueueRepository
from shared.db.workers import Worker, WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.domain.report import RemoteReport, WorkerReport
from shared.domain.switcher import Facts, RemoteSide, Side
from shared.settings import OutsideSettings

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Availability:
    """Asks the database each time; nothing is remembered."""

    def __init__(
        self,
        workers: WorkerRepository,
        queue: QueueRepository,
        outside: OutsideSettings,
        clock: Clock = utc_now,
    ) -> None:
        self._workers = workers
        self._queue = queue
        self._outside = outside
        self._clock = clock

    def facts(self) -> Facts:
        """Return what the switcher needs to know."""
        worker = self._workers.latest(Lane.GPU)
        report = WorkerReport.model_validate(worker.report) if worker and worker.report else None
        at_work = f"the GPU worker runs on {report.device}" if report else "the GPU worker is starting"
        local = self._lane(Lane.GPU, worker) or Side(True, at_work)
        return Facts(
            local=local,
            has_cuda=report.has_cuda if report else True,
            consistent=self._consistent(local, report),
            remote=self._remote(),
        )

    def _consistent(self, local: Side, report: WorkerReport | None) -> Side:
        if not local.available or report is None:
            return local
        here = [item.model for item in report.models if item.available and item.follows_reference]
        if here:
            return Side(True, f"{', '.join(here)} can follow a reference picture")
        return Side(
            False,
            "the worker has no model with an adapter for reference pictures (`flux-image pull`)",
        )

    def enhancer(self) -> Side:
        """Return whether prompts can be enhanced by words now."""
        if self._outside.enhancer_url is None:
            return Side(False, "none is configured: set FLUX_ENHANCER_URL to an OpenAI-compatible API")
        worker = self._workers.latest(Lane.REMOTE)
        return self._lane(Lane.REMOTE, worker) or Side(True, f"asked at {self._outside.enhancer_url}")

    def _remote(self) -> RemoteSide | None:
        space, spec = self._outside.remote_space, self._outside.remote_spec
        if space is None or spec is None:
            return None
        return RemoteSide(
            space=space,
            model=spec.model,
            kinds=frozenset({spec.kind}),
            side=self._space(),
            auto=self._outside.remote_auto,
        )

    def _space(self) -> Side:
        worker = self._workers.latest(Lane.REMOTE)
        if away := self._lane(Lane.REMOTE, worker):
            return away
        reports = map(RemoteReport.model_validate, self._workers.live_reports(Lane.REMOTE))
        known = [report.space for report in reports if report.space is not None and report.space.learned_at is not None]
        if not known:
            return Side(True, "the Space was not asked yet")
        newest = max(known, key=lambda space: space.learned_at or _NEVER)
        is_over = newest.until is not None and newest.until <= self._clock()
        return Side(newest.available or is_over, newest.reason)

    def _lane(self, lane: Lane, worker: Worker | None) -> Side | None:
        """Return why no worker of a lane would start a job now, or ``None`` if one would."""
        name = {Lane.GPU: "GPU", Lane.REMOTE: "remote"}[lane]
        if worker is None:
            return Side(False, f"no {name} worker has started yet")
        if worker.is_gone(self._clock()):
            return Side(False, f"the {name} worker is not running")
        if worker.state is WorkerState.UNHEALTHY:
            return Side(False, f"the {name} worker does not work ({worker.trouble})")
        return Side(False, f"the {name} queue is paused") if self._queue.is_paused(lane) else None
