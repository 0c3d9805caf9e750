"""`python -m worker.healthcheck [remote]`: exit code 0 while a worker of the lane gives signs of life, else 1.

For a container's HEALTHCHECK. It reads the heartbeat row and never asks Celery: the parent process answers a ping
while its child hangs in CUDA. No torch is imported, so that one look costs about a second and little memory.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.settings import WorkerSettings

_NAMES: Final = {Lane.GPU: "GPU", Lane.REMOTE: "remote"}


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict, and one line that says why."""

    healthy: bool
    reason: str


def check_health(settings: WorkerSettings, clock: Clock = utc_now, lane: Lane = Lane.GPU) -> Health:
    """Judge a lane by the worker that gave the last sign of life."""
    database = Database(settings.resolved_database_url)
    try:
        worker = WorkerRepository(database, clock).latest(lane)
    except SQLAlchemyError as error:
        return Health(False, f"the database cannot be read: {error.__cause__ or error}")
    finally:
        database.dispose()
    if worker is None:
        return Health(False, f"no {_NAMES[lane]} worker has started yet")
    now = clock()
    if worker.is_gone(now):
        limit = worker.silence_limit.total_seconds()
        return Health(False, f"worker {worker.owner} stopped, or has been silent for {limit:g} s or more")
    silence = now - worker.heartbeat_at
    reason = f"worker {worker.owner} is {worker.state.value}, last sign of life {silence.total_seconds():.1f} s ago"
    if worker.state is WorkerState.UNHEALTHY:
        return Health(False, f"{reason}; {worker.trouble}")
    return Health(True, reason)


def main() -> int:
    """Write the reason, which ``docker inspect`` shows, and return the exit code."""
    lane = Lane(sys.argv[1]) if len(sys.argv) > 1 else Lane.GPU
    health = check_health(WorkerSettings(), lane=lane)
    sys.stdout.write(f"{'healthy' if health.healthy else 'unhealthy'}: {health.reason}\n")
    return 0 if health.healthy else 1


if __name__ == "__main__":
    sys.exit(main())
