"""Which names this server is asked by. An unknown one may be a foreign page's own name that was made to lead here.

That is DNS rebinding: for the browser such a page and this server are one, so that it may read everything. Only the
name in ``Host`` gives it away. An address cannot be rebound, and these names cannot be had by others: loopback's,
this machine's own, and those that whoever runs the server lists in FLUX_ALLOWED_HOSTS.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import error_answer
from api.proxy import FORWARDED_HOSTS
from shared.domain.errors import UnknownHost
from shared.web_addresses import host_and_port, is_this_machine, normal_host

_SHOWN_CHARACTERS: Final = 100


class KnownHosts:
    """Loopback, this machine's names, the address that was connected to, and what the settings add."""

    def __init__(self, allowed: Collection[str]) -> None:
        name = normal_host(socket.gethostname())
        short = name.partition(".")[0]
        self._all = "*" in allowed
        self._names: Final = frozenset({name, short, f"{short}.local", *allowed} - {"", ".local"})
        self._endings: Final = tuple(entry.removeprefix("*") for entry in allowed if entry.startswith("*."))

    def knows(self, authority: str, listening: str | None) -> bool:
        """Return whether ``authority`` (name, address, with or without port) is this server.

        ``listening`` is the local address of the connection: it covers all addresses of the machine when the server
        listens on 0.0.0.0 or ::.
        """
        if self._all or not authority:
            return True
        parsed = host_and_port(authority)
        if parsed is None:
            return False
        host = parsed[0]
        if is_this_machine(host) or host in self._names or host.endswith(self._endings):
            return True
        return listening is not None and host == normal_host(listening)


class HostCheck:
    """ASGI middleware: refuses requests for unknown hosts; behind a trusted proxy also for those that it names."""

    def __init__(self, app: ASGIApp, known: KnownHosts) -> None:
        self._app: Final = app
        self._known: Final = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        server = scope.get("server")
        listening = server[0] if server else None
        forwarded: list[str] = scope.get(FORWARDED_HOSTS, [])
        for authority in (*Headers(scope=scope).getlist("host"), *forwarded):
            if not self._known.knows(authority, listening):
                await error_answer(_refusal(authority))(scope, receive, send)
                return
        if forwarded:
            scope = {**scope, "headers": list(scope["headers"])}
            MutableHeaders(scope=scope)["host"] = forwarded[0]
        await self._app(scope, receive, send)


def _refusal(authority: str) -> UnknownHost:
    host = authority[:_SHOWN_CHARACTERS]
    return UnknownHost(
        f"Host: this server does not know itself by the name {host!r}. If that name is right, add it to "
        "FLUX_ALLOWED_HOSTS and start the server again.",
        field="Host",
        host=host,
    )
