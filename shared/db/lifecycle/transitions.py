"""The one place where a job's status changes: along an edge of ``TRANSITIONS``, in the caller's transaction.

The row, the number by which watchers see that it changed, and the end of its attempt belong together. Whatever else has
to happen with a move belongs here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Update, bindparam, update

from shared.db.models import AttemptRow, JobRow
from shared.domain.job import JobError
from shared.domain.status import TRANSITIONS, Edge, JobStatus

Values = Mapping[str, Any]

_MOVED: Final = (JobRow.__table__.c.id, JobRow.__table__.c.attempt, JobRow.__table__.c.status)

_CLOSE_ATTEMPT: Final = update(AttemptRow).where(
    AttemptRow.job_id == bindparam("of_job"), AttemptRow.attempt == bindparam("of_attempt")
)


class Move:
    """An edge, prepared: SQLAlchemy takes longer to build a statement than SQLite to run it.

    ``values`` are the row's other columns, and its status. ``returning`` has at least id, attempt and status.
    """

    def __init__(
        self,
        edge: Edge,
        source: JobStatus,
        where: ColumnElement[bool],
        values: Values,
        returning: Sequence[ColumnElement[Any]] = _MOVED,
    ) -> None:
        self._edge = edge
        self._source = source
        self._targets = {target for target, edges in TRANSITIONS[source].items() if edge in edges}
        if not self._targets:
            raise ValueError(f"no edge {edge!r} leaves {source!r}")
        self._statement = changed(where, values).where(JobRow.status == source).returning(*returning)

    def run(
        self, connection: Connection, now: datetime, params: Values | None = None, error: JobError | None = None
    ) -> Sequence[Row[Any]]:
        """Move the jobs that fit and return their rows; ``params`` bind the statement or set further columns.

        The attempt of a job that was running ends with this edge, and with ``error``.

        Raises:
          LookupError: the values lead where the edge does not; the transaction must be rolled back.
        """
        rows = connection.execute(self._statement, {**(params or {})}).all()
        for row in rows:
            if row.status not in self._targets:
                raise LookupError(f"{self._edge!r} does not lead from {self._source!r} to {row.status!r}: job {row.id}")
            if self._source is JobStatus.RUNNING:
                _close_attempt(connection, row, self._edge, error, now)
        return rows


def move(
    connection: Connection,
    edge: Edge,
    source: JobStatus,
    where: ColumnElement[bool],
    values: Values,
    now: datetime,
    *,
    params: Values | None = None,
    error: JobError | None = None,
) -> list[str]:
    """Move the jobs of status ``source`` under ``where`` along an edge and return their ids; see ``Move``."""
    rows = Move(edge, source, where, values).run(connection, now, params, error)
    return [row.id for row in rows]


def changed(where: ColumnElement[bool], values: Values) -> Update:
    """Return the statement that changes jobs in a way that their watchers are to see."""
    return update(JobRow).where(where).values(status_seq=JobRow.status_seq + 1, **values)


def _close_attempt(connection: Connection, row: Row[Any], outcome: Edge, error: JobError | None, now: datetime) -> None:
    values = {
        "of_job": row.id,
        "of_attempt": row.attempt,
        "ended_at": now,
        "outcome": outcome,
        "error_code": error.code if error else None,
        "error_message": error.message if error else None,
    }
    connection.execute(_CLOSE_ATTEMPT, values)
