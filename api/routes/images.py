"""GET /api/images/{id}. The path comes from the row; nothing a caller writes becomes a path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from fastapi.responses import FileResponse

from api.deps import ServicesDep
from api.errors import error_responses
from shared.domain.errors import NotFound
from shared.domain.output_format import OutputFormat

router = APIRouter(prefix="/api/images", tags=["images"])

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "private, max-age=31536000, immutable",
}


@router.get(
    "/{image_id}",
    response_class=Response,
    responses={
        200: {"content": {kind.content_type: {} for kind in OutputFormat}, "description": "the picture"},
        304: {"description": "the caller has it already, by `If-None-Match`"},
        **error_responses(404, 422, 503),
    },
)
def read_image(image_id: str, services: ServicesDep, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return a finished picture; it never changes."""
    image = services.queries.image(image_id)
    etag = f'"{image.sha256}"'
    headers = _HEADERS | {
        "ETag": etag,
        "Content-Disposition": f'inline; filename="{image.id}{Path(image.path).suffix}"',
    }
    if if_none_match is not None and (if_none_match.strip() == "*" or etag in if_none_match):
        return Response(status_code=304, headers=headers)
    path = services.storage.local_path(image.path)
    if path is None:
        return Response(services.storage.read(image.path), media_type=image.content_type, headers=headers)
    if not path.is_file():
        raise NotFound(f"The file of image {image_id!r} is gone from the media directory.", id=image_id)
    return FileResponse(path, media_type=image.content_type, headers=headers)
