"""Takes running jobs back from workers that died or fell silent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, select

from shared.clock import Clock, utc_now
from shared.db.claim_statements import HELD, ended, error_values, named, on_route, queued_again
from shared.db.engine import Database
from shared.db.lifecycle.transitions import move
from shared.db.mapping import to_route
from shared.db.models import AttemptRow, JobRow
from shared.db.rows import JOB_COLUMNS
from shared.domain.errors import WorkerCrashed
from shared.domain.job import MAX_CRASHES, Claim, JobError, Lane
from shared.domain.route import divert_warning
from shared.domain.status import Edge, JobStatus

CRASHES_IN_A_ROW: Final = 2
"""After so many a worker shows that it works before it claims again."""


class RescueRepository:
    """Every query about the jobs of other, dead workers."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def rescue_others(self, lane: Lane, owner: str) -> list[str]:
        """Take back every running job of a lane whose owner is not ``owner``; return their ids.

        Only the holder of the lane's file lock may call this: the lock proves that the others are dead.
        """
        return take_back(self._database, self._clock, and_(JobRow.lane == lane, JobRow.owner != owner))

    def expired(self) -> frozenset[Claim]:
        """Return the claims whose lease ran out, looked at while nobody else could write.

        So a database that takes no writes from anyone makes nobody look silent.
        """
        query = select(JobRow.id, JobRow.attempt, JobRow.owner).where(_is_expired(self._clock()))
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return frozenset()
        with self._database.write(durable=False) as connection:
            rows = connection.execute(query).all()
        return frozenset(Claim(job_id=row.id, attempt=row.attempt, owner=row.owner) for row in rows)

    def rescue_expired(self, claim: Claim) -> bool:
        """Take back a job if its lease still is run out."""
        condition = and_(HELD, _is_expired(self._clock()))
        return bool(take_back(self._database, self._clock, condition, params=named(claim)))

    def crashed_lately(self, lane: Lane) -> bool:
        """Return whether the last two attempts of a lane that ended did so because their worker died."""
        last = (
            select(AttemptRow.outcome)
            .where(AttemptRow.lane == lane, AttemptRow.ended_at.is_not(None))
            .order_by(AttemptRow.ended_at.desc())
            .limit(CRASHES_IN_A_ROW)
        )
        with self._database.read() as connection:
            return connection.scalars(last).all() == [Edge.RESCUE] * CRASHES_IN_A_ROW


def take_back(
    database: Database,
    clock: Clock,
    condition: ColumnElement[bool],
    error: JobError | None = None,
    params: dict[str, Any] | None = None,
) -> list[str]:
    """Put the running jobs under ``condition`` back, or end those that crashed too often; return their ids.

    ``error`` says why; ``params`` are those of ``condition``. One transaction, and none if there is nothing to do.
    """
    query = select(*JOB_COLUMNS).where(JobRow.status == JobStatus.RUNNING, condition)
    with database.read() as connection:
        if connection.execute(query.limit(1), params).first() is None:
            return []
    with database.write() as connection:
        rows, now = connection.execute(query, params).all(), clock()
        for row in rows:
            values = {"crashes": row.crashes + 1, **_after_crash(row, error, now)}
            move(connection, Edge.RESCUE, JobStatus.RUNNING, JobRow.id == row.id, values, now, error=error)
    return [row.id for row in rows]


def _is_expired(now: datetime) -> ColumnElement[bool]:
    return and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at < now)


def _after_crash(row: Row[Any], reason: JobError | None, now: datetime) -> dict[str, Any]:
    if row.crashes + 1 < MAX_CRASHES or row.cancel_requested_at is not None:
        return queued_again(now)
    message = f"The worker died {MAX_CRASHES} times while it ran this job, so it is not tried again."
    if reason is not None:
        message += f" The last time: {reason.message}"
    route = to_route(row)
    if diverted := route.diverted(finished=0):
        warnings = [*row.warnings, divert_warning(route, diverted, message)]
        return queued_again(now) | on_route(diverted, warnings)
    return ended(JobStatus.FAILED, now) | error_values(JobError(code=WorkerCrashed.code, message=message))
