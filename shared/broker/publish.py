"""Rings the doorbell from a bounded background thread, after the row is committed."""

from __future__ import annotations

import queue
import threading
from datetime import timedelta
from typing import Final

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from shared.broker.names import QUEUES, TASKS
from shared.domain.job import Lane
from shared.domain.params import JobKind

log = structlog.get_logger(__name__)

_BACKLOG: Final = 1000
"""Rings that may wait for a slow broker; beyond it they are dropped, and the reconciler rings again."""

PUBLISH_TIMEOUT_SECONDS: Final = 2.0

QUIET: Final = timedelta(seconds=10)
"""Who rings again leaves a job alone that was rung for less than this ago."""


def publish_job(app: Celery, job_id: str, kind: JobKind, lane: Lane) -> None:
    """Ring once for this job; every ring has a fresh task id, since a revoked one is discarded for hours.

    Raises:
      kombu.exceptions.OperationalError: the broker cannot be reached.
    """
    app.send_task(
        TASKS[kind],
        args=[job_id],
        queue=QUEUES[lane],
        retry=False,
        argsrepr=f"('{job_id}',)",
        kwargsrepr="{}",
        ignore_result=True,
    )


class Doorbell:
    """Rings without ever making a request wait for the broker. A ring that fails is no error."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._rings: queue.Queue[tuple[str, JobKind, Lane] | None] = queue.Queue(_BACKLOG)
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, job_id: str, kind: JobKind, lane: Lane) -> bool:
        """Queue one ring; ``False`` when too many are waiting already."""
        try:
            self._rings.put_nowait((job_id, kind, lane))
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Stop after the ring in flight."""
        try:
            self._rings.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout=2 * PUBLISH_TIMEOUT_SECONDS)

    def _run(self) -> None:
        while (ring := self._rings.get()) is not None:
            job_id, kind, lane = ring
            try:
                publish_job(self._app, job_id, kind, lane)
            except OperationalError as error:
                log.warning("doorbell failed", action="ring_failed", job_id=job_id, error=str(error))
