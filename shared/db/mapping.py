"""Rows to domain types; the only place that knows both shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from shared.domain.acceleration import Acceleration
from shared.domain.job import (
    Job,
    JobAttempt,
    JobClass,
    JobError,
    JobImage,
    JobInput,
    Lane,
    Schedule,
    Timings,
)
from shared.domain.params import PARAMS_ADAPTER, InputRole, JobKind
from shared.domain.route import Enhancement, Generator, GeneratorChoice, Route
from shared.domain.status import Edge, JobStatus, Phase


def to_job(row: Row[Any], inputs: Iterable[Row[Any]], images: Iterable[Row[Any]], attempts: Iterable[Row[Any]]) -> Job:
    """Build a frozen ``Job`` from its row and the rows that belong to it."""
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        status=JobStatus(row.status),
        phase=Phase(row.phase) if row.phase else None,
        status_seq=row.status_seq,
        lane=Lane(row.lane),
        schedule=Schedule(
            job_class=JobClass(row.job_class),
            priority=row.priority,
            not_before=row.not_before,
            deadline=row.deadline,
        ),
        held=row.held,
        model=row.model,
        generator=GeneratorChoice(row.generator),
        route=to_route(row),
        enhancement=Enhancement.model_validate(row.enhancement) if row.enhancement else None,
        params=PARAMS_ADAPTER.validate_python(row.params),
        warnings=tuple(row.warnings),
        inputs=tuple(map(to_input, inputs)),
        images=tuple(map(to_image, images)),
        attempt=row.attempt,
        attempts=tuple(map(_to_attempt, attempts)),
        crashes=row.crashes,
        errors=row.errors,
        owner=row.owner,
        cancel_requested_at=row.cancel_requested_at,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=_to_error(row, bool(row.error_retryable)),
        timings=Timings(
            queue_wait_seconds=(row.started_at - row.created_at).total_seconds() if row.started_at else None,
            load_seconds=row.load_seconds,
            run_seconds=row.run_seconds,
        ),
        accelerations=tuple(Acceleration(**item) for item in row.accelerations),
    )


def to_route(row: Row[Any]) -> Route:
    """Build a ``Route`` from the columns ``route`` and ``leg``."""
    return Route.model_validate({**row.route, "position": row.leg})


def route_values(route: Route) -> dict[str, Any]:
    """Return the columns that say where a job is on its route; the lane is always the current leg's."""
    return {
        "route": route.model_dump(mode="json", exclude={"position"}),
        "leg": route.position,
        "lane": route.current.lane,
    }


def to_input(row: Row[Any]) -> JobInput:
    """Build a ``JobInput`` from its row."""
    return JobInput(
        role=InputRole(row.role),
        path=row.path,
        width=row.width,
        height=row.height,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
    )


def to_image(row: Row[Any]) -> JobImage:
    """Build a ``JobImage`` from its row."""
    return JobImage(
        id=row.id,
        index=row.image_index,
        seed=row.seed,
        width=row.width,
        height=row.height,
        path=row.path,
        content_type=row.content_type,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        generator=Generator(row.generator),
    )


def _to_attempt(row: Row[Any]) -> JobAttempt:
    return JobAttempt(
        attempt=row.attempt,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        error=_to_error(row, retryable=row.outcome == Edge.RETRY),
    )


def _to_error(row: Row[Any], retryable: bool) -> JobError | None:
    if row.error_code is None:
        return None
    return JobError(code=row.error_code, message=row.error_message or "", retryable=retryable)
