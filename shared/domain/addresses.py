"""Which addresses are this machine's own, and how an address stands in a URL."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

_HOST: Final = re.compile(r"[^\s/@\[\]?#]+")
_OWN_NAMES: Final = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def is_loopback(host: str) -> bool:
    """Return whether a host, by name or by address, is this machine talking to itself (RFC 6761, 1122, 4291)."""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    name = host.rstrip(".").lower()
    return name in _OWN_NAMES or name.endswith(".localhost")


def is_wildcard(host: str) -> bool:
    """Return whether a host stands for every address of this machine: ``0.0.0.0`` or ``::``."""
    address = _address(host)
    return address is not None and address.is_unspecified


def is_own_url(url: str) -> bool:
    """Return whether a URL leads to this machine itself, so that no proxy may come in between.

    A wildcard counts: Linux takes it for the loopback address. What is no URL leads nowhere.
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return host is not None and (is_loopback(host) or is_wildcard(host))


def clean_host(text: str) -> str:
    """Return a host to listen on; an IPv6 address may stand in brackets, as in a URL.

    Raises:
      ValueError: it is more than a host, such as a URL or a host with a port.
    """
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if (":" in host and _address(host) is None) or not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} is no address and no name of a host; write 127.0.0.1, 0.0.0.0, ::1, :: or a name")
    return host


def url_host(host: str) -> str:
    """Return a host as it stands in a URL: an IPv6 address in brackets, its zone's ``%`` escaped (RFC 6874)."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return _short_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _short_address(host: str) -> IPv4Address | None:
    """Return an IPv4 address in one of the short forms that resolvers take, such as ``127.1``."""
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
