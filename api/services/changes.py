"""Hears from Redis which job moved, sooner than any look at the database. Without Redis, nobody hears anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import redis
import redis.asyncio
import structlog

from shared.broker.urls import redis_url
from shared.channel.progress import CHANGES

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 1.0


class ChangeListener:
    """Calls ``on_change`` with a job id, in the event loop, for every word of a worker."""

    def __init__(self, url: str, on_change: Callable[[str], None]) -> None:
        self._url = redis_url(url)
        self._on_change = on_change

    async def run(self) -> None:
        """Listen until cancelled; what is said while the connection is away is lost."""
        while True:
            try:
                await self._listen()
            except redis.RedisError as error:
                log.debug("cannot listen for changes", action="listen_failed", error=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self) -> None:
        async with (
            redis.asyncio.Redis.from_url(self._url, decode_responses=True) as client,
            client.pubsub(ignore_subscribe_messages=True) as changes,
        ):
            await changes.subscribe(CHANGES)
            async for message in changes.listen():
                self._on_change(message["data"])
