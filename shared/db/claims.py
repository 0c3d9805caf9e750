"""A worker's hold on a job: claim, heartbeat, publish or give back.

Every write after the claim is guarded by id, attempt, owner and ``running``. A write that matches no row means
that somebody else took the job over: the caller must stop and delete its own files.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from shared.clock import Clock, utc_now
from shared.db.claim_order import peek, pick_next
from shared.db.claim_statements import (
    ADD_IMAGES,
    BEGIN_ATTEMPT,
    CLAIM,
    ENTER,
    FINISH,
    HELD,
    RENEW,
    ended,
    error_values,
    image_row,
    measured,
    named,
    on_route,
    queued_again,
)
from shared.db.engine import Database
from shared.db.lifecycle.transitions import Move
from shared.db.models import AttemptRow, JobRow
from shared.db.rescues import take_back
from shared.db.rows import load_claimed
from shared.domain.acceleration import Acceleration
from shared.domain.job import Claim, Job, JobError, JobImage, Lane, NextJob, Timings
from shared.domain.route import Enhancement, Route
from shared.domain.status import Edge, JobStatus, Phase


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a heartbeat learned: whether the claim still holds, and whether somebody asked for a cancel."""

    held: bool
    cancel_requested: bool


class ClaimRepository:
    """Every query of a run. Methods are one transaction each."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def claim(self, lane: Lane, owner: str, lease: timedelta, resident: Set[str] = frozenset()) -> Job | None:
        """Take the best queued job of a lane: class, priority (lower first, like nice), loaded already, age.

        ``resident`` holds the residency keys of what the worker has loaded; see ``shared.domain.residency`` for how
        far they count.
        """
        now = self._clock()
        taken = {"claimant": owner, "now": now, "lease_until": now + lease}
        with self._database.write(durable=False) as connection:
            job_id = pick_next(connection, lane, resident, now)
            if job_id is None:
                return None
            (row,) = CLAIM.run(connection, now, {"job_id": job_id, **taken})
            began = {"job_id": row.id, "attempt": row.attempt, "lane": lane, "owner": owner, "started_at": now}
            return load_claimed(connection, row, connection.execute(BEGIN_ATTEMPT, began).one())

    def heartbeat(self, claim: Claim, lease: timedelta) -> Heartbeat:
        """Extend the lease."""
        values = {"lease_until": self._clock() + lease}
        with self._database.write(durable=False) as connection:
            row = connection.execute(RENEW, named(claim) | values).one_or_none()
        return Heartbeat(held=row is not None, cancel_requested=row is not None and row[0] is not None)

    def cancel_requested(self, claim: Claim) -> bool:
        """Return whether somebody asked for a cancel."""
        with self._database.read() as connection:
            asked = connection.scalar(select(JobRow.cancel_requested_at).where(JobRow.id == claim.job_id))
        return asked is not None

    def set_phase(self, claim: Claim, phase: Phase) -> bool:
        """Record what the run is doing now; ``False`` when the claim is lost."""
        with self._database.write(durable=False) as connection:
            return connection.execute(ENTER, named(claim) | {"new_phase": phase}).rowcount > 0

    def succeed(
        self,
        claim: Claim,
        images: Sequence[JobImage],
        timings: Timings,
        warnings: Sequence[str],
        accelerations: Sequence[Acceleration] = (),
    ) -> bool:
        """Publish the pictures; their files must be durable already. Safe to call again after an error.

        ``False`` when the claim is lost, or when somebody asked for a cancel first: the caller then calls ``cancel``.
        """
        values = measured(timings) | {"warnings": list(warnings), "finished_at": self._clock()}
        values["accelerations"] = [asdict(item) for item in accelerations]
        moved = self._record(claim, FINISH, values, images=images)
        return moved or self._ended_by(claim, Edge.FINISH)

    def fail(self, claim: Claim, error: JobError, timings: Timings) -> bool:
        """End the job in an error; ``False`` when the claim is lost."""
        values = ended(JobStatus.FAILED, self._clock()) | measured(timings) | error_values(error)
        return self._move(claim, Edge.FAIL, values, error=error)

    def cancel(self, claim: Claim, timings: Timings) -> bool:
        """End the job as cancelled; ``False`` when the claim is lost."""
        return self._move(claim, Edge.CANCEL, ended(JobStatus.CANCELLED, self._clock()) | measured(timings))

    def retry(self, claim: Claim, error: JobError, delay: timedelta) -> bool:
        """Put the job back for another try after ``delay``; ``False`` when the claim is lost.

        A job that somebody wants to stop ends as cancelled instead. A wait that the other side asked for is no failed
        try and spends none of the job's budget.
        """
        spent = int(error.retry_after_seconds is None)
        again = {"not_before": self._clock() + delay, "errors": JobRow.errors + spent}
        return self._move(claim, Edge.RETRY, queued_again(self._clock()) | again, error=error)

    def hand_over(
        self,
        claim: Claim,
        route: Route,
        timings: Timings,
        warnings: Sequence[str],
        *,
        images: Sequence[JobImage] = (),
        accelerations: Sequence[Acceleration] = (),
        enhancement: Enhancement | None = None,
        error: JobError | None = None,
    ) -> bool:
        """Publish a leg's pictures and put the job back for the next leg of ``route``; with ``error``, a diversion.

        A job that somebody wants to stop ends as cancelled instead, and keeps these pictures. ``False`` when the claim
        is lost. Calling it again after an error is safe, also when the first call did commit.
        """
        values = queued_again(self._clock()) | on_route(route, warnings) | measured(timings)
        values["accelerations"] = [asdict(item) for item in accelerations]
        if enhancement is not None:
            values["enhancement"] = enhancement.model_dump(mode="json")
        edge = Edge.DIVERT if error else Edge.HAND_OVER
        moved = self._move(claim, edge, values, error=error, images=images)
        return moved or self._ended_by(claim, edge)

    def release(self, claim: Claim) -> bool:
        """Hand the job back untouched, for a worker that shuts down; ``False`` when the claim is lost.

        A job that somebody wants to stop ends as cancelled instead.
        """
        return self._move(claim, Edge.RELEASE, queued_again(self._clock()))

    def crash(self, claim: Claim, error: JobError) -> bool:
        """Take the job back from this process, which is about to end because of it; ``False`` when the claim is lost.

        It counts as a crash, like a rescue, but the attempt keeps the reason.
        """
        return bool(take_back(self._database, self._clock, HELD, error, named(claim)))

    def next_job(self, lane: Lane) -> NextJob | None:
        """Return what the lane's next job probably is, for a worker that can get ready for it."""
        with self._database.read() as connection:
            return peek(connection, lane, self._clock())

    def _move(
        self,
        claim: Claim,
        edge: Edge,
        values: dict[str, Any],
        *,
        error: JobError | None = None,
        images: Sequence[JobImage] = (),
    ) -> bool:
        return self._record(claim, Move(edge, JobStatus.RUNNING, HELD, values), {}, error=error, images=images)

    def _record(
        self,
        claim: Claim,
        move: Move,
        values: dict[str, Any],
        *,
        error: JobError | None = None,
        images: Sequence[JobImage] = (),
    ) -> bool:
        with self._database.write() as connection:
            now = self._clock()
            if not move.run(connection, now, named(claim) | values, error):
                return False
            if images:
                connection.execute(ADD_IMAGES, [image_row(claim, image, now) for image in images])
        return True

    def _ended_by(self, claim: Claim, edge: Edge) -> bool:
        query = select(AttemptRow.outcome).where(
            AttemptRow.job_id == claim.job_id, AttemptRow.attempt == claim.attempt, AttemptRow.owner == claim.owner
        )
        with self._database.read() as connection:
            return connection.scalar(query) == edge
