"""Threads that a hung server cannot turn into a process that does not end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, ParamSpec, TypeVar

Args = ParamSpec("Args")
Result = TypeVar("Result")

POLL_SECONDS: Final = 0.2
"""How often a wait looks up to see whether it should go on."""


class DaemonExecutor(Executor):
    """One daemon thread per task.

    The interpreter waits at its exit for every thread of a ``ThreadPoolExecutor``; for these it does not.
    """

    def submit(self, work: Callable[Args, Result], /, *args: Args.args, **kwargs: Args.kwargs) -> Future[Result]:
        """Start ``work`` at once."""
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                future.set_result(work(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # like the standard executors: whoever asks gets it
                future.set_exception(error)

        threading.Thread(target=run, name="remote-space", daemon=True).start()
        return future


def wait_for(future: Future[Any], seconds: float, on_poll: Callable[[], None]) -> bool:
    """Return whether ``future`` is done within ``seconds``, after calling ``on_poll`` every ``POLL_SECONDS``.

    Whatever ``on_poll`` raises ends the wait.
    """
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    deadline = time.monotonic() + seconds
    while not done.wait(max(0.0, min(POLL_SECONDS, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return False
        on_poll()
    return True
