"""What a run writes to its job's row: the guard of every such write, prepared statements, and groups of values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, bindparam, case, func, insert, or_, update

from shared.db.lifecycle.transitions import Move, changed
from shared.db.mapping import route_values
from shared.db.models import AttemptRow, ImageRow, JobRow, UtcDateTime
from shared.db.rows import JOB_COLUMNS
from shared.domain.job import Claim, JobError, JobImage, Timings
from shared.domain.route import Route
from shared.domain.status import Edge, JobStatus, Phase

HANDED_BACK: Final = {"owner": None, "phase": None, "lease_expires_at": None}

HELD: Final = and_(
    JobRow.id == bindparam("held_id"),
    JobRow.attempt == bindparam("held_attempt"),
    JobRow.owner == bindparam("held_owner"),
    JobRow.status == JobStatus.RUNNING,
)
"""The guard; ``named`` gives its parameters."""

# Built once: SQLAlchemy takes longer to build these statements than SQLite to run them.
CLAIM: Final = Move(
    Edge.CLAIM,
    JobStatus.QUEUED,
    JobRow.id == bindparam("job_id"),
    {
        "status": JobStatus.RUNNING,
        "phase": Phase.LOADING,
        "attempt": JobRow.attempt + 1,
        "owner": bindparam("claimant"),
        "lease_expires_at": bindparam("lease_until"),
        "started_at": func.coalesce(JobRow.started_at, bindparam("now", type_=UtcDateTime())),
    },
    returning=JOB_COLUMNS,
)
BEGIN_ATTEMPT: Final = insert(AttemptRow).returning(*AttemptRow.__table__.columns)
RENEW: Final = (
    update(JobRow).where(HELD).values(lease_expires_at=bindparam("lease_until")).returning(JobRow.cancel_requested_at)
)
ENTER: Final = changed(HELD, {"phase": bindparam("new_phase")})
FINISH: Final = Move(
    Edge.FINISH,
    JobStatus.RUNNING,
    and_(HELD, JobRow.cancel_requested_at.is_(None)),
    {"status": JobStatus.SUCCEEDED, **HANDED_BACK},
)
"""The values of its other columns are passed with it."""
ADD_IMAGES: Final = insert(ImageRow)


def named(claim: Claim) -> dict[str, Any]:
    """Return the parameters of ``HELD``."""
    return {"held_id": claim.job_id, "held_attempt": claim.attempt, "held_owner": claim.owner}


def queued_again(now: datetime) -> dict[str, Any]:
    """Return what puts a running job back, or ends it when a cancel was asked for that no worker has obeyed yet."""
    unwanted = JobRow.cancel_requested_at.is_not(None)
    return {
        "status": case((unwanted, JobStatus.CANCELLED.value), else_=JobStatus.QUEUED.value),
        "finished_at": case((unwanted, now), else_=None),
        # Between two legs it has started.
        "started_at": case((or_(unwanted, JobRow.leg > 0), JobRow.started_at), else_=None),
        "rung_at": None,
        **HANDED_BACK,
    }


def on_route(route: Route, warnings: Sequence[str]) -> dict[str, Any]:
    """Return what puts a job on its next leg, whose budgets of errors and crashes are its own."""
    budgets = {"errors": 0, "crashes": 0}
    return {**route_values(route), **budgets, "started_at": JobRow.started_at, "warnings": list(warnings)}


def measured(timings: Timings) -> dict[str, Any]:
    """Return the columns of timings."""
    return {"load_seconds": timings.load_seconds, "run_seconds": timings.run_seconds}


def error_values(error: JobError) -> dict[str, Any]:
    """Return the columns of a job's error."""
    return {"error_code": error.code, "error_message": error.message, "error_retryable": error.retryable}


def ended(status: JobStatus, now: datetime) -> dict[str, Any]:
    """Return what ends a running job."""
    return {"status": status, "finished_at": now, **HANDED_BACK}


def image_row(claim: Claim, image: JobImage, now: datetime) -> dict[str, Any]:
    """Return the row of a picture that an attempt made."""
    return {
        "id": image.id,
        "job_id": claim.job_id,
        "attempt": claim.attempt,
        "image_index": image.index,
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "path": image.path,
        "content_type": image.content_type,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "generator": image.generator,
        "created_at": now,
    }
