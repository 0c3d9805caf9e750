"""Which queued job is claimed next: class, then priority, then what is on the card already, then age.

Two or three index look-ups inside the claim's transaction. A job that is passed over is marked in that transaction,
so that the bound in ``shared.domain.residency`` holds over restarts and for any number of workers.
"""

from __future__ import annotations

from collections.abc import Set
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Select, bindparam, func, select, update

from shared.db.models import JobRow, UtcDateTime
from shared.db.rows import claim_order, is_due
from shared.domain.job import JobClass, Lane, NextJob
from shared.domain.params import PARAMS_ADAPTER
from shared.domain.residency import QueueHead
from shared.domain.route import Enhancement


def pick_next(connection: Connection, lane: Lane, resident: Set[str], now: datetime) -> str | None:
    """Return the id of the job to claim now, or ``None``; must run in the transaction that claims it.

    ``resident`` holds the residency keys of what is loaded: a job with one of them costs no loading.
    """
    head = _head(connection, lane, now)
    if head is None:
        return None
    if not head.may_be_bypassed(resident, now):
        return head.id
    chosen = _oldest_resident(connection, lane, resident, head, now)
    if chosen is None:
        return head.id
    connection.execute(_BYPASS, {"head_id": head.id, "now": now})
    return chosen


def peek(connection: Connection, lane: Lane, now: datetime) -> NextJob | None:
    """Return the oldest job that may run: very likely the next one."""
    row = connection.execute(_NEXT, {"lane": lane, "now": now}).one_or_none()
    if row is None:
        return None
    params = PARAMS_ADAPTER.validate_python(row.params)
    rewritten = Enhancement.model_validate(row.enhancement).prompt if row.enhancement else None
    return NextJob(residency=row.residency, params=params.model_copy(update={"prompt": rewritten or params.prompt}))


def _head(connection: Connection, lane: Lane, now: datetime) -> QueueHead | None:
    row = connection.execute(_HEAD, {"lane": lane, "now": now}).one_or_none()
    if row is None:
        return None
    return QueueHead(
        id=row.id,
        job_class=JobClass(row.job_class),
        priority=row.priority,
        residency=row.residency,
        bypasses=row.bypasses,
        first_bypassed_at=row.first_bypassed_at,
    )


def _oldest_resident(
    connection: Connection, lane: Lane, resident: Set[str], head: QueueHead, now: datetime
) -> str | None:
    """Ask key by key: each is one seek in the index, while ``IN`` would sort all rows of all keys."""
    place = {"lane": lane, "now": now, "job_class": head.job_class, "priority": head.priority}
    found = [
        row for key in resident if (row := connection.execute(_OLDEST_OF_KEY, {**place, "key": key}).one_or_none())
    ]
    oldest = min(found, key=lambda row: (row.created_at, row.id), default=None)
    return None if oldest is None else str(oldest.id)


def _make_oldest_of_key() -> Select[str, datetime]:
    return (
        select(JobRow.id, JobRow.created_at)
        .where(
            is_due(bindparam("lane"), bindparam("now")),
            JobRow.job_class == bindparam("job_class"),
            JobRow.priority == bindparam("priority"),
            JobRow.residency == bindparam("key"),
        )
        .order_by(JobRow.created_at, JobRow.id)
        .limit(1)
    )


# Built once: SQLAlchemy takes longer to build these statements than SQLite to run them.
_HEAD: Final = (
    select(JobRow.id, JobRow.job_class, JobRow.priority, JobRow.residency, JobRow.bypasses, JobRow.first_bypassed_at)
    .where(is_due(bindparam("lane"), bindparam("now")))
    .order_by(*claim_order())
    .limit(1)
)
_NEXT: Final = (
    select(JobRow.residency, JobRow.params, JobRow.enhancement)
    .where(is_due(bindparam("lane"), bindparam("now")))
    .order_by(*claim_order())
    .limit(1)
)
_OLDEST_OF_KEY: Final = _make_oldest_of_key()
_BYPASS: Final = (
    update(JobRow)
    .where(JobRow.id == bindparam("head_id"))
    .values(
        bypasses=JobRow.bypasses + 1,
        first_bypassed_at=func.coalesce(JobRow.first_bypassed_at, bindparam("now", type_=UtcDateTime())),
    )
)
