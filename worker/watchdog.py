"""Notices work that makes no progress. A thread can do that unless the hang holds the interpreter's lock (GIL):

then the lease runs out as well, and the reconciler in the API process ends this process from outside.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.domain.job import Claim


class Watch:
    """One piece of work, for ``claim`` if it is a job's, and the moment by which its next sign of progress is due."""

    def __init__(self, claim: Claim | None, changed: threading.Condition) -> None:
        self.claim = claim
        self.what = ""
        self.seconds = math.inf
        self.deadline = math.inf
        self._changed = changed

    def expect(self, what: str, seconds: float) -> None:
        """From now on ``what`` may take so many seconds."""
        with self._changed:
            self.what, self.seconds, self.deadline = what, seconds, time.monotonic() + seconds
            self._changed.notify()

    def rest(self) -> None:
        """Expect nothing until the next ``expect``."""
        self.deadline = math.inf


class Watchdog:
    """One thread over all watches; calls ``on_hang(hung, others)`` once, at the first deadline that passes."""

    def __init__(self, on_hang: Callable[[Watch, list[Watch]], None]) -> None:
        self._on_hang = on_hang
        self._changed = threading.Condition()
        self._watches: list[Watch] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watch(self, claim: Claim | None) -> Iterator[Watch]:
        """Watch a piece of work for the length of a block."""
        watch = Watch(claim, self._changed)
        with self._changed:
            self._watches.append(watch)
        try:
            yield watch
        finally:
            with self._changed:
                self._watches.remove(watch)

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not (hung := self._first_hung()):
                if self._closed:
                    return
                earliest = min((watch.deadline for watch in self._watches), default=math.inf)
                self._changed.wait(None if math.isinf(earliest) else max(0.0, earliest - time.monotonic()))
            others = [watch for watch in self._watches if watch is not hung]
        self._on_hang(hung, others)

    def _first_hung(self) -> Watch | None:
        now = time.monotonic()
        return next((watch for watch in self._watches if watch.deadline <= now), None)
