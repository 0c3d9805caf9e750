"""GET /api/jobs/{id}/preview: what the picture in progress will look like."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Response

from api.deps import ServicesDep
from api.errors import error_responses
from shared.domain.errors import NotFound
from shared.domain.status import JobStatus

router = APIRouter(prefix="/api/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/preview",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": {}}, "description": "an eighth of the picture's width and height"},
        204: {"description": "there is none now; ask again later"},
        304: {"description": "the caller has it already, by `If-None-Match`"},
        **error_responses(404, 422, 503),
    },
)
def read_preview(job_id: str, services: ServicesDep, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return the latest preview of a job that runs; 404 once it has ended, for then its pictures are there."""
    job = services.queries.get(job_id)
    if job.is_terminal:
        raise NotFound(f"Job {job_id} has {job.status.value}: it has no preview any more.", id=job_id)
    picture = services.previews.get(job_id, job.attempt) if job.status is JobStatus.RUNNING else None
    if picture is None:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    headers = {
        "ETag": f'"{hashlib.sha256(picture).hexdigest()[:32]}"',
        # Kept only to be asked about again: the next one has the same address.
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(picture, media_type="image/webp", headers=headers)
