"""GET /docs: the API guide, Swagger UI. All of it comes from this server: it works without the internet.

Its files lie in the package fastapi-swagger; nothing of that package runs.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse

from shared.domain.errors import NotFound

router = APIRouter(prefix="/docs", include_in_schema=False)

_FILES: Final = Path(str(files("fastapi_swagger.resources")))
_MEDIA_TYPES: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}

# Addresses are relative, so that they hold behind a proxy with a path prefix as well.
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>FLUX Image API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="guide"></div>
<noscript>This guide needs JavaScript. The same in one file: <a href="openapi.json">openapi.json</a></noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# Without `validatorUrl: null` the guide of a server with a public name asks a validator on the internet.
_START: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#guide",
  deepLinking: true,
  validatorUrl: null,
});
"""

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # icons inside the style sheet; pictures in answers
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


@router.get("")
async def read_guide() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(
        _PAGE, headers={**_HEADERS, "Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    )


@router.get("/start.js")
async def read_start() -> Response:
    """Return the script that starts the guide."""
    return Response(_START, media_type="text/javascript", headers=_HEADERS)


@router.get("/{name}")
async def read_file(name: str) -> FileResponse:
    """Return a file of Swagger UI."""
    if name not in _MEDIA_TYPES:
        raise NotFound(f"The guide has no file {name[:64]!r}.", id=name[:64])
    return FileResponse(_FILES / name, media_type=_MEDIA_TYPES[name], headers=_HEADERS)
