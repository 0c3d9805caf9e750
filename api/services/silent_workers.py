"""Takes jobs back from workers that gave no sign of life, and ends such a worker first if it is on this machine."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import structlog

from shared.db.rescues import RescueRepository
from shared.db.workers import WorkerRepository
from shared.domain.job import Claim
from shared.file_locks import holds_lock

log = structlog.get_logger(__name__)


class SilentWorkers:
    """Acts on a lease that is still run out one round later.

    A whole machine may have slept, its clock may have jumped, or the database may have been locked: a live worker
    renews its lease within that round.
    """

    def __init__(self, rescues: RescueRepository, workers: WorkerRepository, gpu_lock_path: Path) -> None:
        self._rescues = rescues
        self._workers = workers
        self._gpu_lock_path = gpu_lock_path
        self._suspected: frozenset[Claim] = frozenset()

    def rescue(self) -> None:
        """Do one round."""
        expired = self._rescues.expired()
        for claim in expired & self._suspected:
            self._end_worker(claim.owner)
            if self._rescues.rescue_expired(claim):
                log.warning("rescued the job of a silent worker", action="rescue", job_id=claim.job_id)
        self._suspected = expired

    def _end_worker(self, owner: str) -> None:
        """End the process that hangs so badly that it cannot give a sign of life; it still holds the GPU."""
        worker = self._workers.get(owner)
        if worker is None or worker.hostname != socket.gethostname():
            return
        if not holds_lock(worker.pid, self._gpu_lock_path):
            return  # it is gone already, or another process has its pid now
        log.error("ending a silent worker", action="end_worker", owner=owner, pid=worker.pid)
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError) as error:
            log.error("cannot end it", action="end_worker_failed", pid=worker.pid, error=str(error))
