"""Small pictures of running jobs, in Redis for a while; never the truth."""

from __future__ import annotations

from typing import Final

import redis
import structlog

from shared.broker.urls import redis_url

log = structlog.get_logger(__name__)

TTL_SECONDS: Final = 300
"""For what a worker that died leaves behind; others clear up."""

_TIMEOUT_SECONDS: Final = 1.0


class PreviewChannel:
    """Writes and reads the latest preview of an attempt; every method does without Redis when it is away."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            redis_url(url), socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )

    def put(self, job_id: str, attempt: int, picture: bytes) -> None:
        """Show an encoded picture instead of the one before."""
        try:
            self._redis.set(_key(job_id, attempt), picture, ex=TTL_SECONDS)
        except redis.RedisError as error:
            log.debug("preview not sent", action="preview_failed", error=str(error))

    def get(self, job_id: str, attempt: int) -> bytes | None:
        """Return the latest picture of an attempt, ``None`` where there is none."""
        try:
            found = self._redis.get(_key(job_id, attempt))
        except redis.RedisError as error:
            log.debug("preview not read", action="preview_failed", error=str(error))
            return None
        return found if isinstance(found, bytes) else None

    def clear(self, job_id: str, attempt: int) -> None:
        """Forget an attempt that is over."""
        try:
            self._redis.delete(_key(job_id, attempt))
        except redis.RedisError as error:
            log.debug("preview not cleared", action="preview_failed", error=str(error))

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()


def _key(job_id: str, attempt: int) -> str:
    return f"flux:preview:{job_id}:{attempt}"
