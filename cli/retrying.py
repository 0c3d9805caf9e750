"""When a call to the server is made again: after what, after which pause, and for how long in all.

Only for calls that may be repeated: reads, and submits with an ``Idempotency-Key``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2

_LATER: Final = frozenset({429, 502, 503, 504})
"""Statuses that say "not now": a full queue, a part of the stack that is away, a proxy whose server is away."""

_FOR_EVER: Final = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
"""Errors of the caller's own making: the next try would end in the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Pauses double from the first to the longest; each is cut by up to a half, so that callers do not march in step.

    A ``Retry-After`` of the server is always waited for. No try begins later than ``total_seconds`` after the first.
    """

    total_seconds: float = 120.0
    first_pause_seconds: float = 0.25
    longest_pause_seconds: float = 15.0

    def pause_seconds(self, failures: int, draw: float) -> float:
        """Return the pause after so many failures in a row (1 or more); ``draw`` is a random number, 0..1."""
        whole = self.first_pause_seconds * 2.0 ** min(failures - 1, 30)
        return min(self.longest_pause_seconds, whole) * (1 - draw / 2)


class Retrying:
    """Makes calls until the server has an answer that is more than "later", or the time is used up."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._draw = draw

    def call(self, send: Callable[[], httpx2.Response], total_seconds: float | None = None) -> httpx2.Response:
        """Return the answer; "later" only when that is still the answer at the end of the time.

        Raises:
          httpx2.TransportError: the last try had no answer at all.
        """
        limit = self._policy.total_seconds if total_seconds is None else total_seconds
        deadline = self._clock() + limit
        failures = 0
        while True:
            response, error = _try(send)
            if response is not None and response.status_code not in _LATER:
                return response
            failures += 1
            pause = self._policy.pause_seconds(failures, self._draw())
            if response is not None and (asked := retry_after_seconds(response)) is not None:
                pause += asked
            if self._clock() + pause > deadline:
                if error is not None:
                    raise error
                if response is not None:
                    return response
            self._sleep(pause)


def retry_after_seconds(response: httpx2.Response) -> float | None:
    """Return a ``Retry-After`` header, seconds or HTTP date (RFC 9110, 10.2.3), as seconds from now.

    A date is compared with the answer's own ``Date``, because this machine's clock may be another's.
    """
    written = response.headers.get("Retry-After", "").strip()
    if written.isascii() and written.isdigit():
        return float(written)
    moment, now = _http_date(written), _http_date(response.headers.get("Date", ""))
    if moment is None:
        return None
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _try(send: Callable[[], httpx2.Response]) -> tuple[httpx2.Response | None, httpx2.TransportError | None]:
    try:
        return send(), None
    except _FOR_EVER:
        raise
    except httpx2.TransportError as error:
        return None, error


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
