"""Sockets that listen where a setting says, and words for why they cannot."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Final

from shared.domain.addresses import url_host

_TRIES: Final = 10
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_REASONS: Final = {
    errno.EADDRINUSE: "another program uses this port",
    errno.EADDRNOTAVAIL: "this machine does not have this address",
    errno.EAFNOSUPPORT: "this machine does not have this kind of address",
    errno.EACCES: "ports below 1024 need special rights",
}


class CannotListen(RuntimeError):
    """Nothing can listen there; the message says why."""


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for every address of ``host``, all on the same port; ``port`` 0 is any free one.

    ``::`` takes IPv4 as well (a dual-stack socket), ``0.0.0.0`` IPv4 only. An address that a name has but this
    machine does not, such as ``::1`` of ``localhost`` where IPv6 is switched off, is left out if another one works.

    Raises:
      CannotListen: the name is unknown, the address is not this machine's, or the port is taken.
    """
    addresses = _addresses(host)
    for _ in range(_TRIES):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            # A free port of one address may be taken on the next one.
            if port == 0 and error.errno == errno.EADDRINUSE and len(addresses) > 1:
                continue
            reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
            raise CannotListen(f"Cannot listen on {url_host(host)}:{port}: {reason}.") from error
    raise CannotListen(f"Cannot listen on {host}: found no port that is free on all of its addresses.")


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no name"
        raise CannotListen(f"Cannot listen on {host!r}: no address is known for this name ({reason}).") from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind_all(addresses: list[tuple[socket.AddressFamily, str]], port: int) -> list[socket.socket]:
    absent: OSError | None = None
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, address in addresses:
            try:
                bound = _bind(family, address, port)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                absent = error
                continue
            sockets.append(opened.enter_context(bound))
            port = int(bound.getsockname()[1])
        if absent is not None and not sockets:
            raise absent
        opened.pop_all()
    return sockets


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
        # By name once more, since a link-local address needs its zone as a number.
        bound.bind(socket.getaddrinfo(address, port, family, socket.SOCK_STREAM)[0][4])
    except BaseException:
        bound.close()
        raise
    return bound
