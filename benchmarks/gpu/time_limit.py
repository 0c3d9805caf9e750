"""A hard stop for work in this thread, wherever it is."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class TimeIsUp(BaseException):
    """The work took longer than it may; no ``except Exception`` on the way may keep it (torch's compiler has some)."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeIsUp`` in the block once it has run for so long; main thread only.

    Python raises between two of its own instructions: a kernel or a copy that runs is waited for. A timer that was set
    before goes on afterwards.
    """

    def stop(_signal: int, _frame: object) -> NoReturn:
        raise TimeIsUp

    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - began), 0.001))
