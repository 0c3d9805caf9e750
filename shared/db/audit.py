"""The invariants that every accepted job keeps, as queries over the whole table and the media directory.

Numbers follow the lifecycle's list of invariants; run it after every chaos test and as ``flux-image doctor --audit``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, func, or_, select

from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.mapping import to_route
from shared.db.models import AttemptRow, ImageRow, JobRow
from shared.db.orphans import ORPHAN_AGE, find_orphans
from shared.domain.job import MAX_CRASHES
from shared.domain.status import TERMINAL_STATUSES, Edge, JobStatus, Phase
from shared.storage.local import LocalMediaStorage

GRACE: Final = timedelta(seconds=15)
"""How long after its lease a job may still be ``running``: two rounds of the reconciler, and some."""

UNSWEPT_AGE: Final = 2 * ORPHAN_AGE
"""By then a file that no row names should have been swept."""


_PUBLISHING: Final = frozenset({Edge.FINISH, Edge.HAND_OVER, Edge.DIVERT})
"""The ends of an attempt that publish pictures."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    invariant: str
    subject: str
    message: str


def audit(database: Database, media_dir: Path, clock: Clock = utc_now) -> list[Violation]:
    """Return every violation found; empty when all promises hold."""
    with database.read() as connection:
        return [
            *_finished_legs_have_their_pictures(connection, media_dir),
            *_routes_hold_every_picture_once(connection),
            *_attempts_are_in_order(connection),
            *_running_jobs_have_a_live_owner(connection, clock),
            *_workers_run_one_job_and_save_one(connection),
            *_crashes_are_bounded(connection),
            *_ended_jobs_are_closed(connection),
            *_files_have_rows(connection, media_dir, clock),
        ]


def _finished_legs_have_their_pictures(connection: Connection, media_dir: Path) -> Iterator[Violation]:
    jobs = connection.execute(select(JobRow.id, JobRow.status, JobRow.params, JobRow.route, JobRow.leg)).all()
    outcomes = {
        (row.job_id, row.attempt): row.outcome
        for row in connection.execute(select(AttemptRow.job_id, AttemptRow.attempt, AttemptRow.outcome))
    }
    images: dict[str, list[Row[Any]]] = {}
    for image in connection.execute(select(*ImageRow.__table__.columns).order_by(ImageRow.image_index)):
        images.setdefault(image.job_id, []).append(image)
    for job in jobs:
        found = images.get(job.id, [])
        route = to_route(job)
        wanted = list(range(job.params["num_images"])) if job.status == JobStatus.SUCCEEDED else route.done
        if [image.image_index for image in found] != wanted:
            yield Violation("I4", job.id, f"{job.status} with {len(found)} pictures instead of {len(wanted)}")
        makers = {index: leg.generator for leg in route.legs for index in leg.indices}
        for image in found:
            if outcomes.get((job.id, image.attempt)) not in _PUBLISHING:
                yield Violation("I8", job.id, f"picture of attempt {image.attempt}, which published none")
            if image.generator != makers.get(image.image_index, image.generator):
                yield Violation("I10", job.id, f"picture {image.image_index} says it is by {image.generator}")
            if problem := _file_problem(media_dir / image.path, image):
                yield Violation("I4", job.id, f"{image.path} {problem}")


def _file_problem(path: Path, image: Row[Any]) -> str | None:
    if not path.is_file():
        return "is missing"
    data = path.read_bytes()
    if len(data) != image.size_bytes or hashlib.sha256(data).hexdigest() != image.sha256:
        return "is not what was published"
    return None


def _routes_hold_every_picture_once(connection: Connection) -> Iterator[Violation]:
    columns = (JobRow.id, JobRow.status, JobRow.lane, JobRow.params, JobRow.route, JobRow.leg)
    for job in connection.execute(select(*columns)):
        route = to_route(job)
        if sorted(index for leg in route.legs for index in leg.indices) != list(range(job.params["num_images"])):
            yield Violation("I10", job.id, "the legs of its route do not hold every picture once")
        if job.lane != route.current.lane:
            yield Violation("I10", job.id, f"in lane {job.lane}, but its leg belongs to {route.current.lane}")


def _attempts_are_in_order(connection: Connection) -> Iterator[Violation]:
    numbers = select(
        AttemptRow.job_id,
        func.count().label("rows"),
        func.max(AttemptRow.attempt).label("last"),
        func.count().filter(AttemptRow.ended_at.is_(None)).label("open"),
    ).group_by(AttemptRow.job_id)
    counted = {row.job_id: row for row in connection.execute(numbers)}
    for job in connection.execute(select(JobRow.id, JobRow.status, JobRow.attempt)):
        row = counted.get(job.id)
        rows, last, still_open = (row.rows, row.last, row.open) if row else (0, 0, 0)
        if rows != job.attempt or last != job.attempt:
            yield Violation("I5", job.id, f"attempt {job.attempt}, but {rows} attempts are recorded up to {last}")
        if still_open != (1 if job.status == JobStatus.RUNNING else 0):
            yield Violation("I5", job.id, f"{still_open} open attempts of a {job.status} job")


def _running_jobs_have_a_live_owner(connection: Connection, clock: Clock) -> Iterator[Violation]:
    silent = and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at < clock() - GRACE)
    for row in connection.execute(select(JobRow.id, JobRow.owner).where(silent)):
        yield Violation("I6", row.id, f"running under {row.owner}, whose lease ran out")


def _workers_run_one_job_and_save_one(connection: Connection) -> Iterator[Violation]:
    saving = JobRow.phase == Phase.SAVING
    running = select(JobRow.owner, saving.label("saving"), func.count().label("jobs")).where(
        JobRow.status == JobStatus.RUNNING
    )
    for row in connection.execute(running.group_by(JobRow.owner, saving).having(func.count() > 1)):
        yield Violation("I5", row.owner, f"{'saves' if row.saving else 'runs'} {row.jobs} jobs at once")


def _crashes_are_bounded(connection: Connection) -> Iterator[Violation]:
    for row in connection.execute(select(JobRow.id, JobRow.crashes).where(JobRow.crashes > MAX_CRASHES)):
        yield Violation("I7", row.id, f"{row.crashes} crashes")


def _ended_jobs_are_closed(connection: Connection) -> Iterator[Violation]:
    ended = JobRow.status.in_(TERMINAL_STATUSES)
    wrong = or_(
        and_(ended, or_(JobRow.finished_at.is_(None), JobRow.owner.is_not(None))),
        and_(~ended, JobRow.finished_at.is_not(None)),
        and_(JobRow.status == JobStatus.FAILED, JobRow.error_code.is_(None)),
    )
    for row in connection.execute(select(JobRow.id, JobRow.status).where(wrong)):
        yield Violation("I3", row.id, f"{row.status}, but its end is not recorded as such")


def _files_have_rows(connection: Connection, media_dir: Path, clock: Clock) -> Iterator[Violation]:
    old = list(LocalMediaStorage(media_dir).keys_older_than(clock() - UNSWEPT_AGE))
    for key in find_orphans(connection, old):
        yield Violation("I9", key, "no row names this file")
