"""What the last dealings with a Space say about the next: a memory, not a question to the Space."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.clock import Clock, utc_now
from shared.domain.errors import QuotaExceeded, RemoteRefused, RemoteUnavailable, ServiceError

_UNSTATED_SECONDS: Final = 30.0
"""How long a Space that did not answer counts as away."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a call would make sense now; ``until`` is when that may change by itself."""

    available: bool
    reason: str
    until: datetime | None = None


class AvailabilityRecord:
    """Keeps the last outcome that says something about the Space itself."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._last = Availability(True, "not called yet")

    def answered(self) -> None:
        """The Space took a call, whatever became of it."""
        self._last = Availability(True, "it answers")

    def failed(self, error: ServiceError) -> None:
        """The Space could not be used; other errors than these speak of one job only."""
        match error:
            case RemoteRefused():
                self._last = Availability(False, error.message)
            case RemoteUnavailable() | QuotaExceeded():
                wait = timedelta(seconds=error.retry_after_seconds or _UNSTATED_SECONDS)
                self._last = Availability(False, error.message, self._clock() + wait)

    def current(self) -> Availability:
        """Return what is known; a Space whose time has come is worth a try."""
        if self._last.until is not None and self._clock() >= self._last.until:
            return Availability(True, f"may be back; last: {self._last.reason}")
        return self._last
