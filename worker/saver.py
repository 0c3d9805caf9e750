"""The thread beside the one that owns the GPU: it writes and publishes while the next job already runs."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Saver:
    """One thread, so that work is done in the order in which it was handed over."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="saver")

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue ``work``; its log lines carry the caller's context."""
        context = contextvars.copy_context()
        return self._executor.submit(lambda: context.run(work, *args, **kwargs))

    def wait(self, timeout_seconds: float) -> None:
        """Wait until everything handed over so far is done, but not for longer than this."""
        futures.wait([self.start(lambda: None)], timeout_seconds)

    def close(self) -> None:
        """Wait until everything handed over is done, and end the thread."""
        self._executor.shutdown()
