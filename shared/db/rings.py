"""Which waiting jobs the broker should hold a bell for. A bell says that there is work; the row says what."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, or_, select, update

from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.models import JobRow
from shared.db.rows import claim_order, is_due
from shared.domain.job import Lane


class RingRepository:
    """Methods are one transaction each."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def count_due(self, lane: Lane) -> int:
        """Return how many jobs of a lane could be claimed now."""
        query = select(func.count()).select_from(JobRow).where(is_due(lane, self._clock()))
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def due_for_ring(self, lane: Lane, limit: int, quiet: timedelta) -> list[tuple[str, str]]:
        """Return (id, kind) of the first queued jobs that nobody rang for lately, and mark them as rung."""
        now = self._clock()
        due = select(JobRow.id).where(is_due(lane, now)).order_by(*claim_order()).limit(limit)
        statement = (
            update(JobRow)
            .where(JobRow.id.in_(due), or_(JobRow.rung_at.is_(None), JobRow.rung_at < now - quiet))
            .values(rung_at=now)
            .returning(JobRow.id, JobRow.kind)
        )
        with self._database.write(durable=False) as connection:
            return [(row.id, row.kind) for row in connection.execute(statement)]
