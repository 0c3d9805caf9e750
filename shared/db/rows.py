"""Query pieces that several repositories share: whole jobs, and which of them may be claimed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, or_, select

from shared.db.mapping import to_job
from shared.db.models import AttemptRow, ImageRow, InputRow, JobRow, LaneRow
from shared.domain.job import Job, Lane
from shared.domain.status import JobStatus

JOB_COLUMNS = tuple(JobRow.__table__.columns)


def load_jobs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Job]:
    """Attach inputs, images and attempts with one query each, whatever the number of jobs."""
    ids = [row.id for row in rows]
    inputs = _by_job(connection, select(*InputRow.__table__.columns).where(InputRow.job_id.in_(ids)))
    images = _by_job(
        connection,
        select(*ImageRow.__table__.columns).where(ImageRow.job_id.in_(ids)).order_by(ImageRow.image_index),
    )
    attempts = _by_job(
        connection,
        select(*AttemptRow.__table__.columns).where(AttemptRow.job_id.in_(ids)).order_by(AttemptRow.attempt),
    )
    return [to_job(row, inputs[row.id], images[row.id], attempts[row.id]) for row in rows]


def is_due(lane: Lane, now: datetime, job: type[JobRow] = JobRow) -> ColumnElement[bool]:
    """Return the condition for a job that a worker of this lane may claim now."""
    paused = exists().where(LaneRow.lane == lane, LaneRow.paused_at.is_not(None))
    return and_(
        job.status == JobStatus.QUEUED,
        job.lane == lane,
        job.held.is_(False),
        or_(job.not_before.is_(None), job.not_before <= now),
        or_(job.deadline.is_(None), job.deadline > now),
        ~paused,
    )


def claim_order(job: type[JobRow] = JobRow) -> tuple[Any, ...]:
    """Return the order in which jobs are claimed: class, priority (lower first), age."""
    return (job.job_class, job.priority, job.created_at, job.id)


def _by_job(connection: Connection, query: Select[Any]) -> defaultdict[str, list[Row[Any]]]:
    grouped: defaultdict[str, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query):
        grouped[row.job_id].append(row)
    return grouped
