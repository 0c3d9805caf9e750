"""A mistake of the server is answered in the shape and with the CORS headers of every other error.

Starlette answers such a one outside of all middleware, so that a page on another origin sees a network error.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import bug_answer


class LastResort:
    """ASGI middleware: answers 500, then lets the exception go on to the server's log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception:
            if not is_answered:
                await bug_answer()(scope, receive, send)
            raise
