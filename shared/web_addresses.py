"""Hosts, origins and path prefixes as browsers and proxies write them; pure text, no look-ups."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

_AUTHORITY: Final = re.compile(r"(\[[^\[\]/@\s]+\]|[^\[\]:/@,\s]+)(?::(\d{0,5}))?")
_ROOT_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_OWN_FIRST_PARTS: Final = ("api", "docs", "health", "openapi.json")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def host_and_port(authority: str) -> tuple[str, int | None] | None:
    """Return the host of a ``Host`` header (RFC 9110, 7.2) in one spelling, and its port; ``None``: it is none.

    Lower case, without brackets, trailing dot and IPv6 zone; IPv4 inside IPv6 is IPv4.
    """
    found = _AUTHORITY.fullmatch(authority.strip())
    if found is None:
        return None
    name, port = found.group(1), found.group(2)
    if name.startswith("[") and ":" not in name:
        return None
    host = normal_host(name.strip("[]"))
    return (host, int(port) if port else None) if host else None


def normal_host(host: str) -> str:
    """Return a name or an address in one spelling; an international name as its ASCII form (IDNA)."""
    bare = host.strip().lower().partition("%")[0].removesuffix(".")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return bare if bare.isascii() else _in_ascii(bare)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_this_machine(host: str) -> bool:
    """Return whether a browser that is told ``host`` (as ``normal_host``) can only mean the machine it runs on."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3
    return address.is_loopback or address.is_unspecified


def is_same_origin(origin: str, authority: str) -> bool:
    """Return whether a page of ``origin`` (RFC 6454) came from the server that ``Host: authority`` names.

    The scheme is not compared: behind a proxy that ends TLS the server does not know it.
    """
    page, server = urlsplit(origin), host_and_port(authority)
    default = _DEFAULT_PORTS.get(page.scheme)
    asked = host_and_port(page.netloc)
    if default is None or asked is None or server is None:
        return False
    return (asked[0], asked[1] or default) == (server[0], server[1] or default)


def check_allowed_host(entry: str) -> str:
    """Return one entry of FLUX_ALLOWED_HOSTS in one spelling: a name, ``*.name``, an address, or ``*`` for all.

    Raises:
      ValueError: it is something else, such as a URL or a name with a port.
    """
    if entry == "*":
        return entry
    start = "*." if entry.startswith("*.") else ""
    bare = entry.removeprefix("*.")
    parsed = host_and_port(f"[{bare}]" if bare.count(":") > 1 and not bare.startswith("[") else bare)
    if parsed is None or parsed[1] is not None or "*" in parsed[0] or (":" in bare and ":" not in parsed[0]):
        raise ValueError(f"{entry!r} is no host; write a name or an address, without http:// and without a port")
    return start + parsed[0]


def check_root_path(text: str) -> str:
    """Return a path prefix without its last slash; the empty one for ``/``.

    Raises:
      ValueError: it is no plain path, or begins like an address of this server, so that the two could be mixed up.
    """
    path = text.strip().rstrip("/")
    if path and not _ROOT_PATH.fullmatch(path):
        raise ValueError(f"{text[:64]!r} is no path such as /flux (letters, digits, dots, dashes; no query)")
    if path.split("/")[1:2] and path.split("/")[1] in _OWN_FIRST_PARTS:
        raise ValueError(f"{text[:64]!r} begins like an address of this server; choose another, such as /flux")
    return path


def _in_ascii(name: str) -> str:
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
