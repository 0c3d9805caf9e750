"""Requests that wait for a job cost a future each: no thread, no database connection.

One task looks at all awaited jobs with one query per tick, and only while somebody waits; sooner when a worker says
that one of them moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.background import in_thread
from shared.db.jobs import JobRepository, Watermark
from shared.domain.status import TERMINAL_STATUSES

log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 0.05
"""How late a change is seen that nobody told of: by the API itself, or while Redis is away."""


@dataclass(eq=False, slots=True)
class _Waiter:
    job_id: str
    since: int | None
    done: asyncio.Future[None]

    def is_satisfied_by(self, mark: Watermark | None) -> bool:
        if mark is None or mark.status in TERMINAL_STATUSES:
            return True
        return self.since is not None and mark.status_seq > self.since


class JobWatcher:
    """Wakes waiters when their job ends, or moves past a known sequence number."""

    def __init__(self, jobs: JobRepository) -> None:
        self._jobs = jobs
        self._waiters: set[_Waiter] = set()
        self._awaited = asyncio.Event()
        self._moved = asyncio.Event()

    def look_soon(self, job_id: str) -> None:
        """Look at once if somebody waits for this job."""
        if any(waiter.job_id == job_id for waiter in self._waiters):
            self._moved.set()

    async def wait(self, job_id: str, timeout_seconds: float, since: int | None = None) -> None:
        """Return when the job is over (or past ``since``), or after the timeout, whichever is first."""
        with self._registered(job_id, since) as waiter, suppress(TimeoutError):
            await asyncio.wait_for(waiter.done, timeout_seconds)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._awaited.wait()
            self._moved.clear()
            try:
                await self._look()
            except SQLAlchemyError as error:
                log.warning("cannot look at awaited jobs", action="watch_failed", error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), TICK_SECONDS)

    async def _look(self) -> None:
        ids = sorted({waiter.job_id for waiter in self._waiters})
        marks = await in_thread(self._jobs.watermarks, ids)
        for waiter in list(self._waiters):
            if waiter.job_id in ids and waiter.is_satisfied_by(marks.get(waiter.job_id)) and not waiter.done.done():
                waiter.done.set_result(None)

    @contextmanager
    def _registered(self, job_id: str, since: int | None) -> Iterator[_Waiter]:
        waiter = _Waiter(job_id, since, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._awaited.set()
        try:
            yield waiter
        finally:
            self._waiters.discard(waiter)
            if not self._waiters:
                self._awaited.clear()
