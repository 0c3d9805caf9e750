"""Huey with one process: ``huey_consumer benchmarks.peers.plain_huey.app -k process -w 1``."""

from __future__ import annotations

import os

from huey import RedisHuey

from benchmarks.peers.ledger import BROKER, run

app = RedisHuey("bench", url=os.environ[BROKER], results=False)


@app.task()  # type: ignore[untyped-decorator]
def peer(number: int) -> None:
    """Do one job."""
    run(number)
