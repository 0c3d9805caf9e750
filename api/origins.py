"""Which pages may give orders: only this server's own and those in FLUX_CORS_ORIGINS.

A browser sends forms and simple requests of any page anywhere; CORS only keeps the page from reading the answer. What
tells them apart is written by the browser itself and cannot be changed by a page: ``Sec-Fetch-Site`` (W3C Fetch
Metadata) and ``Origin``. The order of the checks is that of Go's ``net/http.CrossOriginProtection``. Programs such as
curl send neither header and are not concerned.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import error_answer
from shared.domain.errors import ForeignOrigin
from shared.web_addresses import is_same_origin

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SHOWN_CHARACTERS: Final = 100


class OriginCheck:
    """ASGI middleware: refuses every method that may change something, when a foreign page sends it."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app: Final = app
        self._allowed: Final = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] not in _SAFE:
            headers = Headers(scope=scope)
            if not self._may_order(headers):
                await error_answer(_refusal(headers.get("origin")))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _may_order(self, headers: Headers) -> bool:
        origins, site = headers.getlist("origin"), headers.get("sec-fetch-site", "").strip().lower()
        if origins and ("*" in self._allowed or all(origin in self._allowed for origin in origins)):
            return True
        if site:
            return site in ("same-origin", "none")  # none: typed or bookmarked by the user
        return all(is_same_origin(origin, headers.get("host", "")) for origin in origins)


def _refusal(origin: str | None) -> ForeignOrigin:
    page = (origin or "another site")[:_SHOWN_CHARACTERS]
    return ForeignOrigin(
        f"Origin: pages of {page} may not change anything here. If that page is yours, add its origin to "
        "FLUX_CORS_ORIGINS and start the server again.",
        field="Origin",
        origin=page,
    )
