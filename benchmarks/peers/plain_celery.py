"""Plain Celery with the product's own settings: ``celery -A benchmarks.peers.plain_celery worker -Q gpu``."""

from __future__ import annotations

import os

from benchmarks.peers.ledger import BROKER, run
from shared.broker.app import make_celery

app = make_celery(os.environ[BROKER])


@app.task(name="peer")
def peer(number: int) -> None:
    """Do one job."""
    run(number)
