"""GET /: where a browser lands until there is a page."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from api.addresses import address

router = APIRouter(include_in_schema=False)


@router.get("/")
async def root() -> RedirectResponse:
    """Lead to the API guide."""
    return RedirectResponse(address("/docs"))
