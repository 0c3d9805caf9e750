"""What one durable commit costs on this disk, now. Targets exclude it: it is the disk's, not the program's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from shared.db.engine import open_database

_ROW: Final = "x" * 1024
"""About as long as a job's row."""


class CommitProbe:
    """Times commits with ``synchronous=FULL``, through the product's own engine, in a database beside its own.

    Interleaved with what is measured, so that both see the same disk.
    """

    def __init__(self, data_dir: Path) -> None:
        self._database = open_database(f"sqlite:///{data_dir / 'commit-probe.db'}")
        with self._database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE probe (row TEXT)")
        self.times_ms: list[float] = []

    def sample(self, count: int = 1) -> None:
        """Commit ``count`` rows, one by one, and note how long each commit takes."""
        for _ in range(count):
            with self._database.engine.execution_options(write="FULL").connect() as connection:
                transaction = connection.begin()
                connection.exec_driver_sql("INSERT INTO probe VALUES (?)", (_ROW,))
                began = time.perf_counter()
                transaction.commit()
                self.times_ms.append((time.perf_counter() - began) * 1000)

    def close(self) -> None:
        """Close the database."""
        self._database.dispose()
