"""Query pieces that several repositories share: whole jobs, and which of them may be claimed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    or_,
    select,
)

from shared.db.mapping import to_job
from shared.db.models import AttemptRow, ImageRow, InputRow, JobRow, LaneRow
from shared.domain.job import Job, Lane
from shared.domain.params import JobKind
from shared.domain.status import JobStatus

JOB_COLUMNS = tuple(JobRow.__table__.columns)


def load_jobs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Job]:
    """Attach inputs, images and attempts with one query each, and none where no job can have any."""
    inputs = _by_job(connection, _INPUTS, [row.id for row in rows if _may_have_inputs(row)])
    images = _by_job(connection, _IMAGES, [row.id for row in rows if row.status == JobStatus.SUCCEEDED or row.leg > 0])
    attempts = _by_job(connection, _ATTEMPTS, [row.id for row in rows if row.attempt > 0])
    return [to_job(row, inputs[row.id], images[row.id], attempts[row.id]) for row in rows]


def load_claimed(connection: Connection, row: Row[Any], begun: Row[Any]) -> Job:
    """As ``load_jobs`` for one job that an attempt just began of; the first is asked for no others."""
    if row.attempt > 1:
        return load_jobs(connection, [row])[0]
    inputs = _by_job(connection, _INPUTS, [row.id] if _may_have_inputs(row) else [])
    return to_job(row, inputs[row.id], [], [begun])


def is_due(lane: Lane | BindParameter[Any], now: datetime | BindParameter[Any]) -> ColumnElement[bool]:
    """Return the condition for a job that a worker of this lane may claim now."""
    paused = exists().where(LaneRow.lane == lane, LaneRow.paused_at.is_not(None))
    return and_(
        JobRow.status == JobStatus.QUEUED,
        JobRow.lane == lane,
        JobRow.held.is_(False),
        or_(JobRow.not_before.is_(None), JobRow.not_before <= now),
        or_(JobRow.deadline.is_(None), JobRow.deadline > now, JobRow.leg > 0),
        ~paused,
    )


def claim_order() -> tuple[Any, ...]:
    """Return the order in which jobs are claimed when nothing is loaded: class, priority (lower first), age."""
    return (JobRow.job_class, JobRow.priority, JobRow.created_at, JobRow.id)


def _may_have_inputs(row: Row[Any]) -> bool:
    """A generate job has pictures where it has a value that belongs to one."""
    return row.kind != JobKind.GENERATE or any(
        row.params.get(name) is not None for name in ("strength", "ip_adapter_scale")
    )


def _by_job(connection: Connection, query: Select[Any], job_ids: Sequence[str]) -> defaultdict[str, list[Row[Any]]]:
    grouped: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    if job_ids:
        for row in connection.execute(query, {"job_ids": job_ids}):
            grouped[row.job_id].append(row)
    return grouped


def _of_jobs(table: FromClause) -> Select[Any]:
    return select(*table.columns).where(table.c.job_id.in_(bindparam("job_ids", expanding=True)))


# Built once: SQLAlchemy takes longer to build these statements than SQLite to run them.
_INPUTS: Final = _of_jobs(InputRow.__table__)
_IMAGES: Final = _of_jobs(ImageRow.__table__).order_by(ImageRow.image_index)
_ATTEMPTS: Final = _of_jobs(AttemptRow.__table__).order_by(AttemptRow.attempt)
