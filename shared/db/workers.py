"""Workers' signs of life, and what they say they can run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row, Select, delete, insert, select, update

from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.models import WorkerRow
from shared.domain.job import MISSED_HEARTBEATS, Lane

_SHORTEST_SILENCE: Final = timedelta(seconds=15)
"""However often it beats: a busy disk delays a write by seconds."""


class WorkerState(StrEnum):
    """What a worker process is doing."""

    STARTING = "starting"
    """Loads the engine and its first model."""
    WARMING = "warming"
    """Ready; while no job waits, it loads more of the default models."""
    IDLE = "idle"
    BUSY = "busy"
    UNHEALTHY = "unhealthy"
    """Alive, but claims nothing until its engine starts and its self-test passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker process; ``report`` is its catalog as in ``shared.domain.report``,
    ``trouble`` the reason for ``UNHEALTHY``."""

    owner: str
    lane: Lane
    hostname: str
    pid: int
    state: WorkerState
    started_at: datetime
    heartbeat_at: datetime
    heartbeat_seconds: float
    left_at: datetime | None
    report: dict[str, Any]
    trouble: str | None

    @property
    def silence_limit(self) -> timedelta:
        """How long it may give no sign of life."""
        return max(_SHORTEST_SILENCE, timedelta(seconds=MISSED_HEARTBEATS * self.heartbeat_seconds))

    def is_gone(self, now: datetime) -> bool:
        """Whether it left in good order, or has been silent for too long."""
        return self.left_at is not None or now - self.heartbeat_at >= self.silence_limit


class WorkerRepository:
    """Every query about workers."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def register(
        self,
        owner: str,
        lane: Lane,
        hostname: str,
        pid: int,
        state: WorkerState = WorkerState.STARTING,
        trouble: str | None = None,
        *,
        heartbeat_seconds: float,
    ) -> None:
        """Add this worker and forget those of the same lane that are silent for a day."""
        now = self._clock()
        with self._database.write(durable=False) as connection:
            stale = WorkerRow.heartbeat_at < now - timedelta(days=1)
            newest = select(WorkerRow.owner).order_by(WorkerRow.heartbeat_at.desc()).limit(1)
            connection.execute(delete(WorkerRow).where(WorkerRow.lane == lane, stale, WorkerRow.owner.not_in(newest)))
            connection.execute(
                insert(WorkerRow).values(
                    owner=owner,
                    lane=lane,
                    hostname=hostname,
                    pid=pid,
                    state=state,
                    trouble=trouble,
                    started_at=now,
                    heartbeat_at=now,
                    heartbeat_seconds=heartbeat_seconds,
                    report={},
                )
            )

    def beat(self, owner: str, state: WorkerState, trouble: str | None = None) -> None:
        """Record a sign of life."""
        self._update(owner, {"state": state, "trouble": trouble})

    def publish(self, owner: str, report: dict[str, Any]) -> None:
        """Record what this worker can run."""
        self._update(owner, {"report": report})

    def leave(self, owner: str) -> None:
        """Record that this worker went away in good order; its report stays readable."""
        self._update(owner, {"left_at": self._clock()})

    def latest(self, lane: Lane) -> Worker | None:
        """Return the worker of a lane that gave the last sign of life, alive or not; one that left comes last."""
        query = (
            select(*WorkerRow.__table__.columns)
            .where(WorkerRow.lane == lane)
            .order_by(WorkerRow.left_at.is_not(None), WorkerRow.heartbeat_at.desc())
            .limit(1)
        )
        return self._find(query)

    def trouble(self, lane: Lane) -> str | None:
        """Return why the lane's worker claims nothing, if it has said so just now; ``None`` when all is well."""
        worker = self.latest(lane)
        if worker is None or worker.state is not WorkerState.UNHEALTHY:
            return None
        return None if worker.is_gone(self._clock()) else worker.trouble

    def get(self, owner: str) -> Worker | None:
        """Return the worker with this id."""
        return self._find(select(*WorkerRow.__table__.columns).where(WorkerRow.owner == owner))

    def live_reports(self, lane: Lane) -> list[dict[str, Any]]:
        """Return what the live workers of a lane have published."""
        now = self._clock()
        with self._database.read() as connection:
            rows = connection.execute(select(*WorkerRow.__table__.columns).where(WorkerRow.lane == lane)).all()
        return [worker.report for worker in map(_to_worker, rows) if worker.report and not worker.is_gone(now)]

    def latest_report(self, lane: Lane) -> dict[str, Any] | None:
        """Return the newest report of a lane, of a live worker or the last one that was."""
        query = select(WorkerRow.report).where(WorkerRow.lane == lane)
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(WorkerRow.heartbeat_at.desc())):
                if row.report:
                    return dict(row.report)
        return None

    def _update(self, owner: str, values: dict[str, Any]) -> None:
        with self._database.write(durable=False) as connection:
            connection.execute(
                update(WorkerRow).where(WorkerRow.owner == owner).values(heartbeat_at=self._clock(), **values)
            )

    def _find(self, query: Select[Any]) -> Worker | None:
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _to_worker(row)


def _to_worker(row: Row[Any]) -> Worker:
    return Worker(
        owner=row.owner,
        lane=Lane(row.lane),
        hostname=row.hostname,
        pid=row.pid,
        state=WorkerState(row.state),
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        heartbeat_seconds=row.heartbeat_seconds,
        left_at=row.left_at,
        report=dict(row.report),
        trouble=row.trouble,
    )
