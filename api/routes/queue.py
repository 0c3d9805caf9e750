"""GET /api/queue, pause and resume; hold, unhold, front and PATCH of a waiting job."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Depends

from api.deps import ServicesDep
from api.errors import error_responses
from api.routes.takes import JSON, Takes
from shared.schemas import CancelledRead, JobRead, QueueRead, RescheduleRequest

router = APIRouter(prefix="/api", tags=["queue"])

_ANY: Final = error_responses(503)
_WAITING_ONLY: Final = error_responses(404, 409, 422, 503)


@router.get("/queue", responses=_ANY)
def read_queue(services: ServicesDep) -> QueueRead:
    """Show what runs, what comes next and how many jobs have which status."""
    return services.queue.read()


@router.post("/queue/pause", responses=_ANY)
def pause(services: ServicesDep) -> QueueRead:
    """Start no more jobs until resumed, also over restarts; the running one goes on."""
    return services.queue.pause()


@router.post("/queue/resume", responses=_ANY)
def resume(services: ServicesDep) -> QueueRead:
    """Start jobs again."""
    return services.queue.resume()


@router.post("/queue/cancel", responses=_ANY)
def cancel_waiting(services: ServicesDep) -> CancelledRead:
    """Cancel every waiting job; the running one goes on."""
    return CancelledRead(cancelled=services.queue.cancel_waiting())


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
