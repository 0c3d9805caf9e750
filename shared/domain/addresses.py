"""Which addresses are this machine's own, and how an address stands in a URL."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

_OWN_NAMES: Final = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def is_loopback(host: str) -> bool:
    """Return whether a host, by name or by address, is this machine talking to itself (RFC 6761, RFC 1122, RFC 4291)."""
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
