"""Tasks that run beside the requests, for as long as the application does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final, ParamSpec, Protocol, TypeVar

import structlog
from fastapi.concurrency import run_in_threadpool

log = structlog.get_logger(__name__)

Args = ParamSpec("Args")
Result = TypeVar("Result")

PATIENCE_SECONDS: Final = 0.5


class Part(Protocol):
    """Something that has work of its own."""

    async def run(self) -> None:
        """Work until cancelled."""


@asynccontextmanager
async def running(parts: Iterable[Part]) -> AsyncIterator[None]:
    """Run the parts during the block; at its end all of them have ended."""
    tasks = {asyncio.create_task(part.run()) for part in parts}
    try:
        yield
    finally:
        await stop(tasks)


async def in_thread(work: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
    """Return the result of blocking work. Who is cancelled meanwhile ends with the work, not before it.

    A thread cannot be cancelled; one left behind would use connections that are being closed.
    """
    done = asyncio.ensure_future(run_in_threadpool(work, *args, **kwargs))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        while not done.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({done})
        if not done.cancelled():
            done.exception()  # of no use to anybody any more
        raise


async def stop(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until each has ended.

    Once is not always enough: in Python 3.11 a cancel that meets the end of what ``asyncio.wait_for`` waits for is
    lost (https://github.com/python/cpython/issues/86296), and the task goes on. redis-py sends each command so.
    """
    pending = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=PATIENCE_SECONDS)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()):
            log.error("a background task had died", action="background_died", error=repr(error))
