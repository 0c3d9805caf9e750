"""`python -m worker.healthcheck`: exit code 0 while a worker of the GPU lane gives signs of life, else 1.

For a container's HEALTHCHECK. It reads the heartbeat row and never asks Celery: the parent process answers a ping
while its child hangs in CUDA. No torch is imported, so that one look costs about a second and little memory.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from shared.clock import Clock, utc_now
from shared.db.engine import Database
from shared.db.workers import Worker, WorkerRepository
from shared.domain.job import Lane
from shared.settings import WorkerSettings

SILENCE_LIMIT: Final = timedelta(seconds=15)
"""Three heartbeats; the same limit as in ``GET /health/ready``."""


def check_health(settings: WorkerSettings, clock: Clock = utc_now) -> int:
    """Print one line about the worker that gave the last sign of life; return the exit code."""
    database = Database(settings.resolved_database_url)
    try:
        worker = WorkerRepository(database, clock).latest(Lane.GPU)
    except SQLAlchemyError as error:
        print(f"unhealthy: the database cannot be read: {error.__cause__ or error}")
        return 1
    finally:
        database.dispose()
    if worker is None:
        print("unhealthy: no GPU worker has started yet")
        return 1
    return _judge(worker, clock() - worker.heartbeat_at)


def _judge(worker: Worker, silence: timedelta) -> int:
    alive = silence < SILENCE_LIMIT
    verdict = "healthy" if alive else "unhealthy"
    print(
        f"{verdict}: worker {worker.owner} is {worker.state.value}, last sign of life {silence.total_seconds():.1f} s ago"
    )
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(check_health(WorkerSettings()))
