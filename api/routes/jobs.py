"""GET /api/jobs, GET /api/jobs/{id}, POST /api/jobs/{id}/cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from api.deps import ServicesDep
from api.errors import error_responses
from shared.db.jobs import JobFilter
from shared.domain.errors import RequestError
from shared.domain.params import JobKind
from shared.domain.status import JobStatus
from shared.schemas.jobs import JobPageRead, JobRead

router = APIRouter(prefix="/api/jobs", tags=["jobs"])


@router.get("", responses=error_responses(422, 503))
def list_jobs(
    services: ServicesDep,
    status: Annotated[tuple[JobStatus, ...], Query(description="repeat for several")] = (),
    kind: Annotated[tuple[JobKind, ...], Query(description="repeat for several")] = (),
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^job_[0-9A-Z]{26}$", description="next_cursor of the page before")
    ] = None,
) -> JobPageRead:
    """List jobs, newest first."""
    return services.queries.page(JobFilter(status, kind), limit, cursor)


@router.get("/{job_id}", responses=error_responses(404, 422, 503))
async def read_job(
    job_id: str,
    services: ServicesDep,
    wait: Annotated[float, Query(ge=0, allow_inf_nan=False, description="long poll: up to so many seconds")] = 0,
    since: Annotated[int | None, Query(ge=0, description="answer once status_seq is above this")] = None,
) -> JobRead:
    """Read a job; with ``wait``, when it has ended or moved past ``since``."""
    longest = services.settings.max_wait_seconds
    if wait > longest:
        raise RequestError(f"wait is {wait:g} s; at most {longest:g}.", field="wait", limit=longest)
    job = await run_in_threadpool(services.queries.get, job_id)
    if wait > 0 and not job.is_terminal:
        await services.watcher.wait(job_id, wait, since)
        job = await run_in_threadpool(services.queries.get, job_id)
    return await run_in_threadpool(services.queries.present, job)


@router.get(
    "/{job_id}/grid",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "the grid"}, **error_responses(404, 422, 503)},
)
def read_grid(job_id: str, services: ServicesDep) -> Response:
    """Return one preview of all pictures that a job has made so far, each with who made it."""
    return Response(services.grid.render(services.queries.get(job_id)), media_type="image/png")


@router.post("/{job_id}/cancel", responses=error_responses(404, 422, 503))
def cancel_job(job_id: str, services: ServicesDep) -> JobRead:
    """Stop a job: a queued one at once, a running one at its next step.

    One that has ended already stays as it is: the answer is still 200 with the job, and `warnings` says so.
    """
    return services.queries.cancel(job_id)
