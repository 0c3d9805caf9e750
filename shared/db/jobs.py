"""Jobs as the API and the clients see them: store, read, list, ask to cancel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, insert, or_, select

from shared.catalog import find_model
from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.lifecycle.transitions import changed, move
from shared.db.mapping import route_values, to_image
from shared.db.models import IdempotencyRow, ImageRow, InputRow, JobRow
from shared.db.rows import JOB_COLUMNS, claim_order, load_jobs
from shared.domain.errors import CapacityError, IdempotencyConflict
from shared.domain.job import IdempotencyKey, Job, JobImage, JobInput, NewJob
from shared.domain.params import InputRole, JobKind
from shared.domain.residency import residency_key
from shared.domain.status import Edge, JobStatus

QUEUE_FULL_RETRY_SECONDS: Final = 30
_COUNTED_ONE_BY_ONE: Final = 4
"""With 10,000 waiting jobs, numbering all of them costs as much as counting the jobs before four of them."""

KEY_LIFETIME: Final = timedelta(hours=24)
"""How long an idempotency key stands for its job."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; empty means all."""

    statuses: tuple[JobStatus, ...] = ()
    kinds: tuple[JobKind, ...] = ()


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page, newest first; ``next_cursor`` is ``None`` on the last one."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Watermark:
    """The least a waiter must know to see that a job moved."""

    status: JobStatus
    status_seq: int


class JobRepository:
    """Every query about jobs outside a run. Methods are one transaction each."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def add(self, job: NewJob, max_queued: int) -> Job:
        """Store a job as ``queued``; after this returns, it is accepted for good.

        Raises:
          CapacityError: ``max_queued`` jobs are waiting already; nothing was stored.
        """
        with self._database.write() as connection:
            return self._insert(connection, job, max_queued)

    def add_once(self, job: NewJob, max_queued: int, key: IdempotencyKey) -> Job:
        """Store a job like ``add``, unless ``key`` stands for one already: then return that one.

        Raises:
          IdempotencyConflict: the key was used with another body.
          CapacityError: the queue is full and the key is new.
        """
        now = self._clock()
        with self._database.write() as connection:
            connection.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < now - KEY_LIFETIME))
            if (known := _job_behind(connection, key, now)) is not None:
                return known
            stored = self._insert(connection, job, max_queued)
            connection.execute(
                insert(IdempotencyRow).values(key=key.key, body_sha256=key.body_sha256, job_id=job.id, created_at=now)
            )
            return stored

    def behind(self, key: IdempotencyKey) -> Job | None:
        """Return the job that ``key`` stands for, or ``None``.

        Raises:
          IdempotencyConflict: the key was used with another body.
        """
        with self._database.read() as connection:
            return _job_behind(connection, key, self._clock())

    def get(self, job_id: str) -> Job | None:
        """Return the job, or ``None``."""
        with self._database.read() as connection:
            rows = connection.execute(select(*JOB_COLUMNS).where(JobRow.id == job_id)).all()
            return load_jobs(connection, rows)[0] if rows else None

    def page(self, wanted: JobFilter, limit: int, cursor: str | None) -> JobPage:
        """Return up to ``limit`` jobs older than ``cursor`` (a job id), newest first."""
        query = select(*JOB_COLUMNS).order_by(JobRow.id.desc()).limit(limit + 1)
        if wanted.statuses:
            query = query.where(JobRow.status.in_(wanted.statuses))
        if wanted.kinds:
            query = query.where(JobRow.kind.in_(wanted.kinds))
        if cursor is not None:
            query = query.where(JobRow.id < cursor)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            jobs = tuple(load_jobs(connection, rows[:limit]))
        return JobPage(jobs, jobs[-1].id if len(rows) > limit else None)

    def queue_positions(self, jobs: Iterable[Job]) -> dict[str, int]:
        """Return how many jobs of the same lane go first, for each of these that is queued.

        By class, priority and age; which model will be loaded by then is not known, and not counted.
        """
        queued = [job for job in jobs if job.status is JobStatus.QUEUED]
        if not queued:
            return {}
        with self._database.read() as connection:
            if len(queued) <= _COUNTED_ONE_BY_ONE:
                return {job.id: _count_ahead(connection, job) for job in queued}
            rows = connection.execute(_POSITIONS, {"job_ids": [job.id for job in queued]})
            return {row.id: row.ahead for row in rows}

    def watermarks(self, job_ids: Sequence[str]) -> dict[str, Watermark]:
        """Return status and sequence number of each id that exists, in one query."""
        with self._database.read() as connection:
            rows = connection.execute(_WATERMARKS, {"job_ids": job_ids})
            return {row.id: Watermark(JobStatus(row.status), row.status_seq) for row in rows}

    def request_cancel(self, job_id: str) -> Job | None:
        """Cancel a queued job at once, or ask the worker of a running one to stop; else change nothing."""
        now = self._clock()
        asked = {"cancel_requested_at": now}
        ended = {**asked, "status": JobStatus.CANCELLED, "finished_at": now}
        is_first = and_(JobRow.id == job_id, JobRow.cancel_requested_at.is_(None))
        with self._database.write() as connection:
            if not move(connection, Edge.CANCEL, JobStatus.QUEUED, is_first, ended, now):
                connection.execute(changed(and_(is_first, JobRow.status == JobStatus.RUNNING), asked))
            rows = connection.execute(select(*JOB_COLUMNS).where(JobRow.id == job_id)).all()
            return load_jobs(connection, rows)[0] if rows else None

    def image(self, image_id: str) -> JobImage | None:
        """Return a published picture, or ``None``."""
        with self._database.read() as connection:
            row = connection.execute(select(*ImageRow.__table__.columns).where(ImageRow.id == image_id)).one_or_none()
            return to_image(row) if row else None

    def _insert(self, connection: Connection, job: NewJob, max_queued: int) -> Job:
        waiting = connection.scalar(_COUNT_QUEUED)
        if (waiting or 0) >= max_queued:
            raise CapacityError(
                f"{waiting} jobs are waiting, which is the limit. Try again later.",
                limit=max_queued,
                retry_after_seconds=QUEUE_FULL_RETRY_SECONDS,
            )
        row = connection.execute(_INSERT_JOB, self._new_row(job)).one()
        if job.inputs:
            connection.execute(insert(InputRow), [_input_row(job.id, item) for item in job.inputs])
        return load_jobs(connection, [row])[0]

    def _new_row(self, job: NewJob) -> dict[str, Any]:
        return {
            "id": job.id,
            "kind": job.params.kind,
            "status": JobStatus.QUEUED,
            "status_seq": 1,
            **route_values(job.route),
            "job_class": job.schedule.job_class,
            "priority": job.schedule.priority,
            "not_before": job.schedule.not_before,
            "deadline": job.schedule.deadline,
            "held": False,
            "model": job.model,
            "residency": residency_key(job.model, job.params.precision, _adapter_of(job)),
            "bypasses": 0,
            "generator": job.generator,
            "enhancement": job.enhancement.model_dump(mode="json") if job.enhancement else None,
            "params": job.params.model_dump(mode="json"),
            "warnings": list(job.warnings),
            "attempt": 0,
            "crashes": 0,
            "errors": 0,
            "created_at": self._clock(),
        }


def _job_behind(connection: Connection, key: IdempotencyKey, now: datetime) -> Job | None:
    known = connection.execute(
        select(IdempotencyRow.job_id, IdempotencyRow.body_sha256).where(
            IdempotencyRow.key == key.key, IdempotencyRow.created_at >= now - KEY_LIFETIME
        )
    ).one_or_none()
    if known is None:
        return None
    if known.body_sha256 != key.body_sha256:
        raise IdempotencyConflict(
            "This Idempotency-Key was used for another request. Use a new key for a new request.",
            field="Idempotency-Key",
        )
    rows = connection.execute(select(*JOB_COLUMNS).where(JobRow.id == known.job_id)).all()
    return load_jobs(connection, rows)[0]


def _input_row(job_id: str, item: JobInput) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "role": item.role,
        "path": item.path,
        "width": item.width,
        "height": item.height,
        "size_bytes": item.size_bytes,
        "sha256": item.sha256,
    }


def _count_ahead(connection: Connection, job: Job) -> int:
    place = {
        "lane": job.lane,
        "job_class": job.schedule.job_class,
        "priority": job.schedule.priority,
        "created_at": job.created_at,
        "id": job.id,
    }
    return connection.scalar(_COUNT_AHEAD, place) or 0


def _make_count_ahead() -> Select[Any]:
    same_class = JobRow.job_class == bindparam("job_class")
    same_priority = and_(same_class, JobRow.priority == bindparam("priority"))
    ahead = or_(
        JobRow.job_class < bindparam("job_class"),
        and_(same_class, JobRow.priority < bindparam("priority")),
        and_(same_priority, JobRow.created_at < bindparam("created_at")),
        and_(same_priority, JobRow.created_at == bindparam("created_at"), JobRow.id < bindparam("id")),
    )
    return _COUNT_QUEUED.where(JobRow.lane == bindparam("lane"), ahead)


def _make_positions() -> Select[Any]:
    place = func.row_number().over(partition_by=JobRow.lane, order_by=claim_order())
    waiting = select(JobRow.id, (place - 1).label("ahead")).where(JobRow.status == JobStatus.QUEUED).subquery()
    return select(waiting.c.id, waiting.c.ahead).where(waiting.c.id.in_(bindparam("job_ids", expanding=True)))


def _adapter_of(job: NewJob) -> str | None:
    """Return the name of the adapter through which a job follows its reference picture, if it has one."""
    if all(item.role is not InputRole.REFERENCE for item in job.inputs):
        return None
    adapter = find_model(job.model).capabilities.ip_adapter
    return None if adapter is None else adapter.name


# Built once: SQLAlchemy takes longer to build the statements of a submit than SQLite to run them.
_COUNT_QUEUED: Final = select(func.count()).select_from(JobRow).where(JobRow.status == JobStatus.QUEUED)
_COUNT_AHEAD: Final = _make_count_ahead()
_POSITIONS: Final = _make_positions()
_WATERMARKS: Final = select(JobRow.id, JobRow.status, JobRow.status_seq).where(
    JobRow.id.in_(bindparam("job_ids", expanding=True))
)
_INSERT_JOB: Final = insert(JobRow).returning(*JOB_COLUMNS)
