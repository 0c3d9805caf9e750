"""When a failed attempt is tried again, and after how long."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

from shared.domain.job import Job, JobError

_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 300.0
_JITTER: Final = 0.2


def retry_pause(job: Job, error: JobError, max_attempts: int) -> timedelta | None:
    """Return how long to wait before the next try, or ``None`` when there is none.

    Only retryable errors are tried again, ``max_attempts`` times in all; crashes and releases have their own
    accounts. The pause is 5 s x 2^n, at most 300 s, give or take a fifth so that jobs do not come back at once.
    """
    failed = job.errors + 1
    if not error.retryable or failed >= max_attempts:
        return None
    pause = min(_FIRST_PAUSE_SECONDS * 2 ** (failed - 1), _LONGEST_PAUSE_SECONDS)
    return timedelta(seconds=pause * random.uniform(1 - _JITTER, 1 + _JITTER))
