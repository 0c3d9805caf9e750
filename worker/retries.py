"""When a failed attempt is tried again, after how long, and when the other side takes over instead."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final

from shared.clock import utc_now
from shared.domain.errors import MediaMissing, QuotaExceeded, RemoteUnavailable, StorageFailed
from shared.domain.job import Job, JobError
from shared.domain.route import Generator

_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 300.0
_JITTER: Final = 0.2
_LONGEST_JITTER_SECONDS: Final = 30.0
_PATIENCE: Final = timedelta(days=1)
"""The period of ZeroGPU's quota: what is not over by then will not be over by waiting."""
_SHARE_OF_WAIT: Final = 0.1
"""A pause lasts at least this share of the time waited already, so that a day holds tens of tries, not hundreds."""


def retry_pause(job: Job, error: JobError, max_attempts: int, now: datetime | None = None) -> timedelta | None:
    """Return how long to wait before the next try, or ``None`` when there is none.

    Only retryable errors are tried again, ``max_attempts`` times in all; crashes and releases have their own
    accounts. The pause is 5 s x 2^n, at most 300 s, give or take a fifth so that jobs do not come back at once.

    Where the other side said when to come back, it is not asked earlier. Such waits spend no tries; they end with
    the job's ``deadline``, or a day after the first try.
    """
    if not error.retryable:
        return None
    if error.retry_after_seconds is not None:
        now = now or utc_now()
        waited = now - (job.attempts[0].started_at if job.attempts else now)
        if waited >= _PATIENCE:
            return None
        pause = max(error.retry_after_seconds, _SHARE_OF_WAIT * waited.total_seconds())
        return timedelta(seconds=pause + random.uniform(0, min(_JITTER * pause, _LONGEST_JITTER_SECONDS)))
    failed = job.errors + 1
    if failed >= max_attempts:
        return None
    pause = min(_FIRST_PAUSE_SECONDS * 2 ** (failed - 1), _LONGEST_PAUSE_SECONDS)
    return timedelta(seconds=pause * random.uniform(1 - _JITTER, 1 + _JITTER))


_AWAY: Final = frozenset({RemoteUnavailable.code, QuotaExceeded.code})
"""The side itself is away: where there is another one, waiting for this one helps nobody."""
_NOT_THE_SIDES: Final = frozenset({StorageFailed.code, MediaMissing.code})
"""The other side would fail in the same way."""


def may_divert(job: Job, error: JobError, *, is_final: bool) -> bool:
    """Return whether this error is a reason to let the other generator take over; the route says whether one can.

    ``is_final`` tells that the leg has no tries left. An enhancement is never tried twice: it is only a help.
    """
    if error.code in _NOT_THE_SIDES:
        return False
    return is_final or error.code in _AWAY or job.route.current.generator is Generator.ENHANCER
