"""Refuses request bodies above a limit, in the shape and with the CORS headers of every other error.

FastAPI's own ``max_body_size`` answers in plain text from outside the CORS middleware, so that a page on another
origin sees a network error instead of the reason.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_answer
from shared.domain.errors import UploadTooLarge


class BodyLimit:
    """ASGI middleware: by Content-Length before a byte is read, else as soon as too many have come."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app: Final = app
        self._max_bytes: Final = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_bytes(scope) > self._max_bytes:
            await error_answer(self._error())(scope, receive, send)
            return
        taken = 0

        async def receive_within_limit() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                # FastAPI turns anything but an HTTPException into "cannot be parsed" while it reads a body.
                raise HTTPException(UploadTooLarge.status_code) from self._error()
            return message

        await self._app(scope, receive_within_limit, send)

    def _error(self) -> UploadTooLarge:
        return UploadTooLarge(
            f"body: the request is larger than {self._max_bytes} bytes.", field="body", limit=self._max_bytes
        )


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isdecimal() else 0
