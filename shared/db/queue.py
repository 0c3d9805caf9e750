"""The queue as its owner steers it: pause, hold, reorder, cancel what waits, expire what is late."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.models import JobRow, LaneRow
from shared.db.rows import JOB_COLUMNS, claim_order, load_jobs
from shared.domain.errors import DeadlinePassed, JobConflict, NotFound
from shared.domain.job import Job, Lane
from shared.domain.status import JobStatus


@dataclass(frozen=True, slots=True)
class QueueState:
    """A lane at one moment."""

    paused: bool
    counts: dict[JobStatus, int]
    running: tuple[Job, ...]
    next: tuple[Job, ...]
    """The first waiting jobs in claim order."""


class QueueRepository:
    """Every query about the queue as a whole, or a job's place in it. One transaction each."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def state(self, lane: Lane, limit: int) -> QueueState:
        """Return what runs, what waits (``limit`` jobs) and how many jobs have which status."""
        in_lane = select(*JOB_COLUMNS).where(JobRow.lane == lane)
        running = in_lane.where(JobRow.status == JobStatus.RUNNING).order_by(JobRow.started_at)
        waiting = in_lane.where(JobRow.status == JobStatus.QUEUED).order_by(*claim_order()).limit(limit)
        counts = select(JobRow.status, func.count()).where(JobRow.lane == lane).group_by(JobRow.status)
        with self._database.read() as connection:
            return QueueState(
                paused=connection.scalar(select(LaneRow.paused_at).where(LaneRow.lane == lane)) is not None,
                counts={JobStatus(status): number for status, number in connection.execute(counts)},
                running=tuple(load_jobs(connection, connection.execute(running).all())),
                next=tuple(load_jobs(connection, connection.execute(waiting).all())),
            )

    def is_paused(self, lane: Lane) -> bool:
        """Return whether an owner has stopped a lane."""
        with self._database.read() as connection:
            return connection.scalar(select(LaneRow.paused_at).where(LaneRow.lane == lane)) is not None

    def pause(self, lane: Lane) -> None:
        """Start no more jobs of a lane; the running one goes on. Kept over restarts."""
        with self._database.write() as connection:
            connection.execute(delete(LaneRow).where(LaneRow.lane == lane))
            connection.execute(insert(LaneRow).values(lane=lane, paused_at=self._clock()))

    def resume(self, lane: Lane) -> None:
        """Start jobs of a lane again; they are rung for by the reconciler."""
        with self._database.write() as connection:
            connection.execute(delete(LaneRow).where(LaneRow.lane == lane))
            connection.execute(
                update(JobRow).where(JobRow.status == JobStatus.QUEUED, JobRow.lane == lane).values(rung_at=None)
            )

    def hold(self, job_id: str) -> Job:
        """Keep a waiting job from running until it is released.

        Raises:
          NotFound: there is none under this id.
          JobConflict: it does not wait any more.
        """
        return self._change_waiting(job_id, {"held": True})

    def unhold(self, job_id: str) -> Job:
        """Let a held job run.

        Raises:
          NotFound, JobConflict: as ``hold``.
        """
        return self._change_waiting(job_id, {"held": False, "rung_at": None})

    def reschedule(self, job_id: str, changes: dict[str, Any]) -> Job:
        """Change class, priority, ``not_before`` or ``deadline`` of a waiting job.

        Raises:
          NotFound, JobConflict: as ``hold``.
          RequestError: the job could not start in the times that come of it.
        """
        with self._database.write() as connection:
            schedule = self._waiting(connection, job_id).schedule
            if changes.keys() & {"not_before", "deadline"}:
                replace(schedule, **changes).check(self._clock())
            return self._write(connection, job_id, {**changes, "rung_at": None})

    def move_to_front(self, job_id: str) -> Job:
        """Put a waiting job before all others of its lane and class.

        Raises:
          NotFound, JobConflict: as ``hold``.
        """
        with self._database.write() as connection:
            schedule = self._waiting(connection, job_id).schedule
            first = connection.scalar(
                select(func.min(JobRow.priority)).where(
                    JobRow.status == JobStatus.QUEUED, JobRow.job_class == schedule.job_class, JobRow.id != job_id
                )
            )
            priority = schedule.priority if first is None else min(schedule.priority, first - 1)
            return self._write(connection, job_id, {"priority": priority})

    def cancel_waiting(self, lane: Lane) -> int:
        """Cancel every waiting job of a lane and return how many there were."""
        now = self._clock()
        statement = (
            update(JobRow)
            .where(JobRow.status == JobStatus.QUEUED, JobRow.lane == lane)
            .values(
                status=JobStatus.CANCELLED,
                cancel_requested_at=now,
                finished_at=now,
                status_seq=JobRow.status_seq + 1,
            )
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount

    def expire(self) -> list[str]:
        """Fail every job that has not started by its deadline and return their ids; one between two legs has."""
        now = self._clock()
        late = (JobRow.status == JobStatus.QUEUED, JobRow.deadline <= now, JobRow.leg == 0)
        with self._database.read() as connection:
            if connection.execute(select(JobRow.id).where(*late).limit(1)).first() is None:
                return []
        statement = (
            update(JobRow)
            .where(*late)
            .values(
                status=JobStatus.FAILED,
                error_code=DeadlinePassed.code,
                error_message="The job was still waiting at its deadline, so it was not run.",
                error_retryable=False,
                finished_at=now,
                status_seq=JobRow.status_seq + 1,
            )
            .returning(JobRow.id)
        )
        with self._database.write() as connection:
            return [row.id for row in connection.execute(statement)]

    def _change_waiting(self, job_id: str, values: dict[str, Any]) -> Job:
        with self._database.write() as connection:
            self._waiting(connection, job_id)
            return self._write(connection, job_id, values)

    def _waiting(self, connection: Connection, job_id: str) -> Job:
        row = connection.execute(select(*JOB_COLUMNS).where(JobRow.id == job_id)).one_or_none()
        if row is None:
            raise NotFound(f"There is no job {job_id!r}.", id=job_id)
        if row.status != JobStatus.QUEUED:
            raise JobConflict(f"Job {job_id} is {row.status}; only a waiting job can be changed.", status=row.status)
        return load_jobs(connection, [row])[0]

    def _write(self, connection: Connection, job_id: str, values: dict[str, Any]) -> Job:
        statement = (
            update(JobRow)
            .where(JobRow.id == job_id)
            .values(status_seq=JobRow.status_seq + 1, **values)
            .returning(*JOB_COLUMNS)
        )
        return load_jobs(connection, [connection.execute(statement).one()])[0]
