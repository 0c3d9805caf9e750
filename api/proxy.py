"""What a proxy says about a request (``X-Forwarded-*``), believed only from the proxies in FORWARDED_ALLOW_IPS.

uvicorn has a middleware for client and scheme; host and path prefix are added here. The server starts with uvicorn's
own one switched off: it replaces the address by which a proxy is recognised.
"""

from __future__ import annotations

from typing import Final, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api.addresses import below
from api.errors import error_answer
from shared.domain.errors import RequestError
from shared.web_addresses import check_root_path

FORWARDED_HOSTS: Final = "flux.forwarded_hosts"
"""Key in the scope: the names that trusted proxies were asked by, the caller's own first."""

_PREFIX: Final = "x-forwarded-prefix"


class Proxy:
    """ASGI middleware: client, scheme, names and path prefix as the trusted proxies saw them."""

    def __init__(self, app: ASGIApp, trusted: str, root_path: str = "") -> None:
        self._app: Final = app
        self._root_path: Final = root_path
        self._forwarded: Final = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, app = Headers(scope=scope), self._app
        root_path = self._root_path or scope.get("root_path", "").rstrip("/")
        scope = dict(scope)
        if self._trusts(scope):
            app = cast(ASGIApp, self._forwarded)
            lines = headers.getlist("x-forwarded-host")
            scope[FORWARDED_HOSTS] = [name.strip() for line in lines for name in line.split(",") if name.strip()]
            try:
                root_path = check_root_path(headers[_PREFIX]) if _PREFIX in headers else root_path
            except ValueError as error:
                refusal = RequestError(f"X-Forwarded-Prefix: {error}.", field="X-Forwarded-Prefix")
                await error_answer(refusal)(scope, receive, send)
                return
        _set_root_path(scope, root_path)
        with below(root_path):
            await app(scope, receive, send)

    def _trusts(self, scope: Scope) -> bool:
        client = scope.get("client")
        return (client[0] if client else None) in self._forwarded.trusted_hosts


def _set_root_path(scope: Scope, root_path: str) -> None:
    """Make ``path`` begin with ``root_path``, as ASGI wants it, whether or not the proxy has cut it off."""
    scope["root_path"] = root_path
    path: str = scope["path"]
    if root_path and path != root_path and not path.startswith(f"{root_path}/"):
        scope["path"] = root_path + path
        if raw := scope.get("raw_path"):
            scope["raw_path"] = root_path.encode() + raw
