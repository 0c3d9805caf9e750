"""HEAD for every GET, and which methods an address has: for all routes alike, whoever adds them."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


class HeadAsGet:
    """ASGI middleware: HEAD is a GET whose body stays here (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                if message.get("more_body", False):
                    return
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)


def allowed_methods(app: FastAPI, scope: Scope) -> tuple[str, ...]:
    """Return all methods that the address of ``scope`` takes, for ``Allow``."""
    found = [method for method in _METHODS if _is_served(app, {**scope, "method": method})]
    return (*found, *(("HEAD",) if "GET" in found else ()), "OPTIONS")


def _is_served(app: FastAPI, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes)
