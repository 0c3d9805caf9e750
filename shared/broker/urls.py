"""One broker address, in the spelling of each library."""

from __future__ import annotations

from typing import Final

SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+socket": "unix",
}
"""Schemes that a broker's address may have, and what redis-py calls each."""


def redis_url(url: str) -> str:
    """Return the address as redis-py writes it (``redis``, ``rediss`` or ``unix`` scheme, ``db`` in the query)."""
    scheme, _, rest = url.partition("://")
    return f"{SCHEMES.get(scheme, scheme)}://{_rename(rest, 'virtual_host', 'db')}"


def celery_url(url: str) -> str:
    """Return the address as kombu writes it: a Unix socket is ``redis+socket``, its database ``virtual_host``."""
    plain = redis_url(url)
    if not plain.startswith("unix://"):
        return plain
    return "redis+socket://" + _rename(plain.removeprefix("unix://"), "db", "virtual_host")


def _rename(rest: str, old: str, new: str) -> str:
    """Give one parameter of the query another name; the path, which may hold the same letters, stays as it is."""
    path, question_mark, query = rest.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    renamed = "&".join("".join((new if name == old else name, *value)) for name, *value in pairs)
    return f"{path}{question_mark}{renamed}"
