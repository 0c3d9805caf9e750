"""How a run learns that it must stop, and why. Cooperative: checked at every step and phase boundary."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum


class StopReason(StrEnum):
    """Why a run stops before its end."""

    USER_REQUEST = "user_request"
    SHUTDOWN = "shutdown"
    CLAIM_LOST = "claim_lost"


class JobInterrupted(Exception):
    """Raised out of a run; carries the reason. Not an error of the generator."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class StopSignal:
    """Set from any thread, checked by the run. The first reason wins."""

    def __init__(self, shutting_down: Callable[[], bool] = lambda: False) -> None:
        self._shutting_down = shutting_down
        self._lock = threading.Lock()
        self._reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """Ask the run to stop."""
        with self._lock:
            self._reason = self._reason or reason

    def raise_if_stopped(self) -> None:
        """Return if the run may go on.

        Raises:
          JobInterrupted: it may not; with the reason.
        """
        if self._reason is None and self._shutting_down():
            self.stop(StopReason.SHUTDOWN)
        self.raise_if_asked()

    def raise_if_asked(self) -> None:
        """As ``raise_if_stopped``, for work so short that a shutdown waits for it."""
        if self._reason is not None:
            raise JobInterrupted(self._reason)
