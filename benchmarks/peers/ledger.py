"""The work of a peer's task: what the worker writes for a job that takes no time, and nothing else."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from shared.clock import utc_now
from shared.db.engine import Database, open_database

FOLDER: Final = "BENCH_PEER_DIR"
BROKER: Final = "BENCH_PEER_BROKER"


def make_ledger(folder: Path, count: int) -> Database:
    """Return a database with ``count`` waiting rows, through the product's own engine."""
    database = open_database(_url(folder))
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs (id INTEGER PRIMARY KEY, started_at TEXT, ended_at TEXT)")
        for number in range(count):
            connection.exec_driver_sql("INSERT INTO jobs (id) VALUES (?)", (number,))
    return database


def run(number: int) -> None:
    """Claim without syncing, finish with syncing: the two grades of durability of the worker."""
    database = _database()
    for column, durable in (("started_at", False), ("ended_at", True)):
        with database.write(durable=durable) as connection:
            connection.exec_driver_sql(
                f"UPDATE jobs SET {column} = ? WHERE id = ? AND {column} IS NULL", (utc_now().isoformat(), number)
            )


@lru_cache(maxsize=1)
def _database() -> Database:
    return open_database(_url(Path(os.environ[FOLDER])))


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.db'}"
