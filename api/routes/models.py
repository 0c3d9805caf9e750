"""GET /api/models."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import ServicesDep
from api.errors import error_responses
from shared.schemas.models import ModelsRead

router = APIRouter(prefix="/api", tags=["models"])


@router.get("/models", responses=error_responses(503))
def list_models(services: ServicesDep) -> ModelsRead:
    """List the catalog: what the worker can run, the defaults, and why; and the generators with their state."""
    return services.models.list_models(services.generators.list_generators(), services.generators.read_enhancer())
