"""A request to stop: made in Celery's parent, which gets the signals, and seen in its child, which does the work."""

from __future__ import annotations

import time
from multiprocessing.sharedctypes import RawValue
from typing import Final

_LOOK_SECONDS: Final = 0.1
"""How often who waits looks: no signal reaches the child."""


class Shutdown:
    """Create it before the fork: both sides then share its memory. The clock is the machine's monotonic one."""

    def __init__(self, grace_seconds: float = 0.0) -> None:
        self._grace_seconds = grace_seconds
        self._asked_at = RawValue("d", 0.0)  # without a lock, so that a signal handler may write it

    def ask(self) -> None:
        """Start no more jobs; the grace time begins. Asking again changes nothing."""
        self._asked_at.value = self._asked_at.value or time.monotonic()

    def is_asked(self) -> bool:
        """Whether new jobs must not be started."""
        return bool(self._asked_at.value)

    def wait(self, seconds: float) -> bool:
        """Wait until it is asked, or so long; return whether it is."""
        until = time.monotonic() + seconds
        while not self.is_asked() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
        return self.is_asked()

    def is_due(self) -> bool:
        """Whether the grace time is over, so that the running job has to go back to the queue."""
        return self.is_asked() and time.monotonic() >= self._asked_at.value + self._grace_seconds
