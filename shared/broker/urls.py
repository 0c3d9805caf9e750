"""One broker address, in the spelling of each library."""

from __future__ import annotations

from typing import Final

_SCHEMES: Final = {"valkeys": "rediss", "valkey": "redis", "redis+socket": "unix"}


def redis_url(url: str) -> str:
    """Return the address as redis-py writes it (``redis``, ``rediss`` or ``unix`` scheme, ``db`` in the query)."""
    scheme, _, rest = url.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}://{rest.replace('virtual_host=', 'db=')}"


def celery_url(url: str) -> str:
    """Return the address as kombu writes it: a Unix socket is ``redis+socket``, its database ``virtual_host``."""
    plain = redis_url(url)
    if not plain.startswith("unix://"):
        return plain
    return "redis+socket://" + plain.removeprefix("unix://").replace("db=", "virtual_host=")
