"""What went in must come out, once: the total-queue check of Jepsen, over every row and every file.

*Lost*: accepted, and not at a stated end. *Duplicated*: one submit that became two jobs, or one job with two ends.
*Unexpected*: a job that nobody submitted, or an end that no fault explains. *Recovered*: in danger once, and well at
the end: run more than once, or accepted although the answer was lost on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from shared.clock import Clock, utc_now
from shared.db.audit import Violation, audit
from shared.db.engine import Database
from shared.db.models import AttemptRow, JobRow
from shared.domain.status import TERMINAL_STATUSES, Edge, JobStatus

ENDS = (Edge.FINISH, Edge.FAIL, Edge.CANCEL)


@dataclass
class History:
    """What the client did and was told. A submit is known by its seed, which no other submit has."""

    attempted: set[int] = field(default_factory=set)
    accepted: dict[int, str] = field(default_factory=dict)
    """Seed to job id, of each submit that was answered."""
    explained: dict[int, Sequence[str]] = field(default_factory=dict)
    """Seed to the ends that are right for it, where that is not only ``succeeded``: statuses or error codes."""


@dataclass(frozen=True)
class Tally:
    """The verdict. Everything but ``recovered`` must be empty."""

    submitted: int
    lost: Sequence[str]
    duplicated: Sequence[str]
    unexpected: Sequence[str]
    recovered: Sequence[str]
    violations: Sequence[Violation]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected or self.violations)

    def as_json(self) -> Mapping[str, int]:
        return {
            "submitted": self.submitted,
            "lost": len(self.lost),
            "duplicated": len(self.duplicated),
            "unexpected": len(self.unexpected),
            "recovered": len(self.recovered),
            "violations": len(self.violations),
        }


def tally(database: Database, media_dir: Path, history: History, clock: Clock = utc_now) -> Tally:
    """Judge the whole table and directory against what the client was told."""
    with database.read() as connection:
        jobs = connection.execute(
            select(JobRow.id, JobRow.status, JobRow.attempt, JobRow.error_code, JobRow.params)
        ).all()
        ends = Counter(
            row.job_id for row in connection.execute(select(AttemptRow.job_id).where(AttemptRow.outcome.in_(ENDS)))
        )
    by_seed: dict[int, list[Row[Any]]] = {}
    for job in jobs:
        by_seed.setdefault(job.params["seed"], []).append(job)

    def ids(condition: Callable[[int, Row[Any]], bool]) -> list[str]:
        return sorted(job.id for seed, same in by_seed.items() for job in same if condition(seed, job))

    def ended(job: Row[Any]) -> bool:
        return job.status in TERMINAL_STATUSES

    def explained(seed: int, job: Row[Any]) -> bool:
        right = history.explained.get(seed, (JobStatus.SUCCEEDED,))
        return job.status in right or job.error_code in right

    known = {job.id for job in jobs}
    return Tally(
        submitted=len(history.attempted),
        lost=sorted(
            {job_id for job_id in history.accepted.values() if job_id not in known}
            | set(ids(lambda _seed, job: not ended(job)))
        ),
        duplicated=ids(lambda seed, job: len(by_seed[seed]) > 1 or ends[job.id] > 1),
        unexpected=ids(lambda seed, job: seed not in history.attempted or (ended(job) and not explained(seed, job))),
        recovered=ids(
            lambda seed, job: job.status == JobStatus.SUCCEEDED and (job.attempt > 1 or seed not in history.accepted)
        ),
        violations=audit(database, media_dir, clock),
    )
