"""GET /api/queue, pause and resume; hold, unhold, front and PATCH of a waiting job."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from api.deps import ServicesDep
from api.errors import error_responses
from api.routes.takes import JSON, Takes
from shared.domain.route import Lane
from shared.schemas.jobs import JobRead
from shared.schemas.queue import CancelledRead, QueueRead
from shared.schemas.requests import RescheduleRequest

router = APIRouter(prefix="/api", tags=["queue"])

_WAITING_ONLY: Final = error_responses(404, 409, 422, 503)


_IN_LANE: Final = error_responses(422, 503)
LaneQuery = Annotated[Lane, Query(description="`gpu`: this machine's card; `remote`: Spaces and prompt enhancers")]


@router.get("/queue", responses=_IN_LANE)
def read_queue(services: ServicesDep, lane: LaneQuery = Lane.GPU) -> QueueRead:
    """Show what runs, what comes next and how many jobs have which status."""
    return services.queue.read(lane)


@router.post("/queue/pause", responses=_IN_LANE)
def pause(services: ServicesDep, lane: LaneQuery = Lane.GPU) -> QueueRead:
    """Start no more jobs until resumed, also over restarts; the running one goes on."""
    return services.queue.pause(lane)


@router.post("/queue/resume", responses=_IN_LANE)
def resume(services: ServicesDep, lane: LaneQuery = Lane.GPU) -> QueueRead:
    """Start jobs again."""
    return services.queue.resume(lane)


@router.post("/queue/cancel", responses=_IN_LANE)
def cancel_waiting(services: ServicesDep, lane: LaneQuery = Lane.GPU) -> CancelledRead:
    """Cancel every waiting job of a lane; the running one goes on."""
    return CancelledRead(cancelled=services.queue.cancel_waiting(lane))


@router.post("/jobs/{job_id}/hold", responses=_WAITING_ONLY)
def hold(job_id: str, services: ServicesDep) -> JobRead:
    """Keep a waiting job from running."""
    return services.queue.hold(job_id)


@router.post("/jobs/{job_id}/unhold", responses=_WAITING_ONLY)
def unhold(job_id: str, services: ServicesDep) -> JobRead:
    """Let a held job run."""
    return services.queue.unhold(job_id)


@router.post("/jobs/{job_id}/front", responses=_WAITING_ONLY)
def move_to_front(job_id: str, services: ServicesDep) -> JobRead:
    """Put a waiting job before all others of its class."""
    return services.queue.move_to_front(job_id)


@router.patch(
    "/jobs/{job_id}",
    responses=error_responses(404, 409, 413, 415, 422, 503),
    dependencies=[Depends(Takes(JSON))],
)
def reschedule(job_id: str, body: RescheduleRequest, services: ServicesDep) -> JobRead:
    """Change class, priority, not_before or deadline of a waiting job."""
    return services.queue.reschedule(job_id, body.changes())
