"""Jobs that wait in a lane nobody serves, but need not: their route leads on without it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select

from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.lifecycle.transitions import move
from shared.db.mapping import route_values, to_route
from shared.db.models import JobRow
from shared.db.rows import is_due
from shared.domain.params import JobKind
from shared.domain.route import Generator, GeneratorChoice, Lane, Route, divert_warning
from shared.domain.status import Edge, JobStatus


@dataclass(frozen=True, slots=True)
class MovedOn:
    """A job that waits in another lane now, or for another leg of the same one."""

    job_id: str
    kind: JobKind
    lane: Lane


class StrandedRepository:
    """One query, one transaction."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def move_on(self, lane: Lane, since: datetime, reason: str, served: Set[Lane]) -> list[MovedOn]:
        """Divert the jobs that wait in ``lane`` since before ``since`` to a ``served`` one; an enhancement is skipped.

        Call it when nobody has served the lane since then. A paused lane is left alone: its owner wants it to wait.
        """
        with self._database.read() as connection:
            if not self._stranded(connection, lane, since):
                return []
        with self._database.write() as connection:
            moves = [(row, _onward(row, reason, served)) for row in self._stranded(connection, lane, since)]
            now = self._clock()
            return [_divert(connection, row, *onward, now) for row, onward in moves if onward is not None]

    def _stranded(self, connection: Connection, lane: Lane, since: datetime) -> list[Row[Any]]:
        two_sided = JobRow.generator.in_((GeneratorChoice.FALLBACK, GeneratorChoice.MERGE))
        first_leg = JobRow.route[("legs", 0, "generator")].as_string()
        to_enhance = and_(JobRow.leg == 0, first_leg == Generator.ENHANCER.value)
        columns = (JobRow.id, JobRow.kind, JobRow.route, JobRow.leg, JobRow.warnings)
        waiting = and_(is_due(lane, self._clock()), JobRow.created_at < since, or_(two_sided, to_enhance))
        return list(connection.execute(select(*columns).where(waiting)).all())


def _onward(row: Row[Any], reason: str, served: Set[Lane]) -> tuple[Route, str] | None:
    route = to_route(row)
    diverted = route.diverted(finished=0)
    if diverted is None:
        return None
    if route.current.generator is not Generator.ENHANCER and diverted.current.lane not in served:
        return None
    return diverted, divert_warning(route, diverted, reason)


def _divert(connection: Connection, row: Row[Any], route: Route, warning: str, now: datetime) -> MovedOn:
    values = {
        "rung_at": None,
        "errors": 0,
        "crashes": 0,
        "warnings": [*row.warnings, warning],
        **route_values(route),
    }
    move(connection, Edge.DIVERT, JobStatus.QUEUED, JobRow.id == row.id, values, now)
    return MovedOn(row.id, JobKind(row.kind), route.current.lane)
