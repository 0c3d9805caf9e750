"""Sends jobs on whose lane nobody serves: the other side of a fallback takes over, an enhancement is left out."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from shared.broker.publish import Doorbell
from shared.clock import Clock, utc_now
from shared.db.stranded import StrandedRepository
from shared.db.workers import WorkerRepository
from shared.domain.job import Lane

log = structlog.get_logger(__name__)

PATIENCE: Final = timedelta(seconds=60)
"""How long a lane may be without a worker, which is longer than a restart takes."""


class StrandedLanes:
    """Looks at each lane in each round of the reconciler."""

    def __init__(
        self,
        stranded: StrandedRepository,
        workers: WorkerRepository,
        doorbell: Doorbell,
        clock: Clock = utc_now,
    ) -> None:
        self._stranded = stranded
        self._workers = workers
        self._doorbell = doorbell
        self._clock = clock
        self._watching_since = clock()

    def move_on(self) -> None:
        """Move the jobs of every lane that has had no worker for ``PATIENCE``."""
        now = self._clock()
        since = now - PATIENCE
        if self._watching_since > since:  # after a start of everything, workers come later than the API
            return
        for lane in Lane:
            latest = self._workers.latest(lane)
            if latest is not None and (latest.heartbeat_at >= since or not latest.is_gone(now)):
                continue
            served = {other for other in Lane if self._is_served(other)}
            reason = f"no worker of the {lane.value} lane has been running for {PATIENCE.seconds} s"
            for moved in self._stranded.move_on(lane, since, reason, served):
                log.warning("moved a stranded job", action="move_on", job_id=moved.job_id, lane=moved.lane)
                self._doorbell.ring(moved.job_id, moved.kind, moved.lane)

    def _is_served(self, lane: Lane) -> bool:
        latest = self._workers.latest(lane)
        return latest is not None and not latest.is_gone(self._clock())
