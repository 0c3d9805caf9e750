"""Web origins as people write them, in the form that browsers send (RFC 6454, section 6.2)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def clean_origin(text: str) -> str:
    """Return an origin as a browser's ``Origin`` header has it: lower case, no slash at the end, no usual port.

    Raises:
      ValueError: it is no origin; the message says why.
    """
    if text == "*":
        raise ValueError("'*' would let every web page give orders here; list the origins of your pages")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{text!r} is no origin; write scheme://host:port, such as http://localhost:5173") from None
    if "://" not in text or not parts.scheme or not host:
        raise ValueError(f"{text!r} is no origin; write scheme://host:port, such as http://localhost:5173")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{text!r} is more than an origin; leave out everything but scheme, host and port")
    host = f"[{host}]" if ":" in host else _ascii(host)
    return (
        f"{parts.scheme}://{host}"
        if port in (None, _DEFAULT_PORTS.get(parts.scheme))
        else f"{parts.scheme}://{host}:{port}"
    )


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{host!r} is no name of a host") from None
