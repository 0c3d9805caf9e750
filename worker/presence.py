"""This worker's row: it is alive, what it is doing, what it can run."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel

from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from worker.periodic import Periodic


class Presence:
    """Beats in the background from ``join`` to ``leave``."""

    def __init__(self, workers: WorkerRepository, owner: str, lane: Lane, heartbeat_seconds: float) -> None:
        self._workers = workers
        self._owner = owner
        self._lane = lane
        self._heartbeat_seconds = heartbeat_seconds
        self._now: tuple[WorkerState, str | None] = (WorkerState.STARTING, None)
        self._writing = threading.Lock()
        self._pulse = Periodic("presence", heartbeat_seconds, self._beat)

    def join(self, trouble: str | None = None) -> None:
        """Add this process's row and start beating; ``trouble`` is what the last one had, and this one may have too."""
        if trouble is not None:
            self._now = (WorkerState.UNHEALTHY, trouble)
        self._workers.register(
            self._owner,
            self._lane,
            socket.gethostname(),
            os.getpid(),
            *self._now,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        self._pulse.__enter__()

    def leave(self) -> None:
        """Stop beating and say goodbye."""
        self._pulse.__exit__(None, None, None)
        self._workers.leave(self._owner)

    def publish(self, report: BaseModel) -> None:
        """Tell the API what this worker can run: a ``WorkerReport``, or a ``RemoteReport`` in the remote lane."""
        self._workers.publish(self._owner, report.model_dump(mode="json"))

    def become(self, state: WorkerState, trouble: str | None = None) -> None:
        """Change the state, visible at once; ``trouble`` says why nothing is claimed."""
        self._now = (state, trouble)
        self._beat()

    @contextmanager
    def during(self, state: WorkerState) -> Iterator[None]:
        """Be in ``state`` for the length of a block, then idle; the row says so soon after, and no job waits for it."""
        self._now = (state, None)
        self._pulse.nudge()
        try:
            yield
        finally:
            self._now = (WorkerState.IDLE, None)
            self._pulse.nudge()

    def _beat(self) -> None:
        with self._writing:  # of the pulse and ``become``, the one that writes last has read last
            self._workers.beat(self._owner, *self._now)
