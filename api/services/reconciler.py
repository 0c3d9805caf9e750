"""Mends what a crash left behind: rescues jobs of silent workers, expires late jobs, rings for lost doorbells."""

from __future__ import annotations

import asyncio
from typing import Final

import redis
import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.background import in_thread
from api.services.silent_workers import SilentWorkers
from api.services.stranded import StrandedLanes
from shared.broker.depth import queue_depth
from shared.broker.publish import QUIET, Doorbell
from shared.db.queue import QueueRepository
from shared.db.rings import RingRepository
from shared.domain.job import Lane
from shared.domain.params import JobKind

log = structlog.get_logger(__name__)

MAX_RINGS: Final = 64
"""Rings per round: enough for very short jobs, while ringing for thousands of rows would flood the broker."""


class Reconciler:
    """One round every few seconds, in the API process."""

    def __init__(
        self,
        silent: SilentWorkers,
        queue: QueueRepository,
        rings: RingRepository,
        stranded: StrandedLanes,
        broker: redis.Redis,
        doorbell: Doorbell,
        interval_seconds: float,
    ) -> None:
        self._silent = silent
        self._queue = queue
        self._rings = rings
        self._stranded = stranded
        self._broker = broker
        self._doorbell = doorbell
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await in_thread(self.reconcile)
            except (SQLAlchemyError, redis.RedisError) as error:
                log.warning("reconciling failed", action="reconcile_failed", error=str(error))

    def reconcile(self) -> None:
        """Do one round."""
        self._silent.rescue()
        if late := self._queue.expire():
            log.info("deadline passed", action="expire", jobs=late)
        self._stranded.move_on()
        for lane in Lane:
            missing = min(self._rings.count_due(lane), MAX_RINGS) - queue_depth(self._broker, lane)
            if missing <= 0:
                continue
            for job_id, kind in self._rings.due_for_ring(lane, missing, QUIET):
                log.info("ringing again", action="ring_again", job_id=job_id)
                self._doorbell.ring(job_id, JobKind(kind), lane)
