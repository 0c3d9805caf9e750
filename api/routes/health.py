"""GET /health and /health/ready."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.deps import ServicesDep
from api.version import VERSION
from shared.schemas.server import HealthRead, ReadyRead

router = APIRouter(prefix="/health", tags=["health"])


@router.get("")
async def health() -> HealthRead:
    """Say that the process answers."""
    return HealthRead(status="ok", version=VERSION)


@router.get("/ready", responses={503: {"model": ReadyRead, "description": "a part is missing"}})
def ready(services: ServicesDep, response: Response) -> ReadyRead:
    """Say whether a job submitted now would run: 200 or 503, with the state of each part."""
    state = services.health.ready()
    response.status_code = 200 if state.ready else 503
    return state
