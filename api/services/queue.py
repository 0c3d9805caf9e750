"""Steers the queue over HTTP."""

from __future__ import annotations

from typing import Any

from api.services.queries import JobQueries
from shared.broker.publish import Doorbell
from shared.db.queue import QueueRepository
from shared.domain.job import Job, Lane
from shared.domain.status import JobStatus
from shared.schemas.jobs import JobRead
from shared.schemas.queue import QueueRead

_SHOWN_JOBS = 20


class QueueService:
    """Pausing, reading and cancelling are about one lane; the rest is about one job."""

    def __init__(self, queue: QueueRepository, queries: JobQueries, doorbell: Doorbell) -> None:
        self._queue = queue
        self._queries = queries
        self._doorbell = doorbell

    def read(self, lane: Lane) -> QueueRead:
        """Return what runs, what comes next and how much there is."""
        state = self._queue.state(lane, _SHOWN_JOBS)
        return QueueRead(
            lane=lane,
            paused=state.paused,
            counts={status: state.counts.get(status, 0) for status in JobStatus},
            running=self._queries.present_many(state.running),
            next=self._queries.present_many(state.next),
        )

    def pause(self, lane: Lane) -> QueueRead:
        """Start no more jobs."""
        self._queue.pause(lane)
        return self.read(lane)

    def resume(self, lane: Lane) -> QueueRead:
        """Start jobs again, the first one at once."""
        self._queue.resume(lane)
        for job in self._queue.state(lane, 1).next:
            self._ring(job)
        return self.read(lane)

    def cancel_waiting(self, lane: Lane) -> int:
        """Cancel all waiting jobs; the running ones go on."""
        return self._queue.cancel_waiting(lane)

    def hold(self, job_id: str) -> JobRead:
        """Keep a waiting job from running; see ``QueueRepository.hold`` for the errors."""
        return self._queries.present(self._queue.hold(job_id))

    def unhold(self, job_id: str) -> JobRead:
        """Let a held job run."""
        return self._rung(self._queue.unhold(job_id))

    def move_to_front(self, job_id: str) -> JobRead:
        """Put a waiting job before all others of its class."""
        return self._queries.present(self._queue.move_to_front(job_id))

    def reschedule(self, job_id: str, changes: dict[str, Any]) -> JobRead:
        """Change when a waiting job runs and what goes before it."""
        return self._rung(self._queue.reschedule(job_id, changes))

    def _rung(self, job: Job) -> JobRead:
        self._ring(job)
        return self._queries.present(job)

    def _ring(self, job: Job) -> None:
        self._doorbell.ring(job.id, job.kind, job.lane)
