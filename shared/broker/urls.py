"""One broker address, in the spelling of each library."""

from __future__ import annotations


def redis_url(url: str) -> str:
    """Return the address as redis-py writes it (``redis``, ``rediss`` or ``unix`` scheme)."""
    for ours, theirs in (
        ("valkeys://", "rediss://"),
        ("valkey://", "redis://"),
        ("redis+socket://", "unix://"),
    ):
        if url.startswith(ours):
            return theirs + url.removeprefix(ours)
    return url


def celery_url(url: str) -> str:
    """Return the address as kombu writes it: it calls a Unix socket ``redis+socket``."""
    plain = redis_url(url)
    return "redis+socket://" + plain.removeprefix("unix://") if plain.startswith("unix://") else plain
