"""Which jobs need the same things on the card, and how long the others may be passed over for that.

Swapping models costs seconds, so a job whose model is loaded already goes before an older one of the same class and
priority. The bound keeps that from starving anyone: it is counted on the oldest job that could run.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.domain.job import JobClass
from shared.domain.precision import Precision, ResidencyKey

MAX_BYPASSES: Final = 32
"""A job is passed over for a loaded model at most so often."""

MAX_BYPASSED_FOR: Final = timedelta(seconds=120)
"""And for at most so long after it was passed over for the first time."""


def residency_key(model: str, precision: Precision = Precision.EXACT, adapter: str | None = None) -> str:
    """Return what must be on the card for a job: jobs with equal keys follow each other without loading anything."""
    return str(ResidencyKey(model, precision, adapter))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHead:
    """The oldest job that may run, of the best class and priority, and how often it was passed over."""

    id: str
    job_class: JobClass
    priority: int
    residency: str
    bypasses: int
    first_bypassed_at: datetime | None

    def may_be_bypassed(self, resident: Set[str], now: datetime) -> bool:
        """Return whether a younger job of its class and priority, whose key is in ``resident``, may go first."""
        if not resident or self.residency in resident or self.job_class is JobClass.INTERACTIVE:
            return False
        if self.bypasses >= MAX_BYPASSES:
            return False
        return self.first_bypassed_at is None or now - self.first_bypassed_at < MAX_BYPASSED_FOR
