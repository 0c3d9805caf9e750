"""Deletes files that a crash left behind."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.background import in_thread
from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.orphans import ORPHAN_AGE, find_orphans
from shared.storage.base import MediaStorage

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 600.0


class Sweeper:
    """One round every ten minutes, in the API process."""

    def __init__(self, database: Database, storage: MediaStorage, clock: Clock = utc_now) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await in_thread(self.sweep)
            except (SQLAlchemyError, OSError) as error:
                log.warning("sweeping failed", action="sweep_failed", error=str(error))
            await asyncio.sleep(INTERVAL_SECONDS)

    def sweep(self) -> list[str]:
        """Delete old files that no row names and return their keys."""
        old = list(self._storage.keys_older_than(self._clock() - ORPHAN_AGE))
        if not old:
            return []
        with self._database.read() as connection:
            orphans = find_orphans(connection, old)
        for key in orphans:
            self._storage.delete(key)
            log.info("swept a file that no row names", action="sweep", key=key)
        return orphans
