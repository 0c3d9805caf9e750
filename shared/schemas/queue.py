"""The queue as it goes over the wire."""

from __future__ import annotations

from pydantic import BaseModel

from shared.domain.route import Lane
from shared.domain.status import JobStatus
from shared.schemas.jobs import JobRead


class QueueRead(BaseModel):
    """A lane of the queue at one moment; ``next`` holds the first waiting jobs in the order they will run."""

    lane: Lane
    paused: bool
    counts: dict[JobStatus, int]
    running: list[JobRead]
    next: list[JobRead]


class CancelledRead(BaseModel):
    """How many jobs were cancelled."""

    cancelled: int
