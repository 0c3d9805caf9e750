"""One `up` per data directory; the kernel drops the lock when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DataDirInUse(RuntimeError):
    """Another `flux-image up` holds this data directory."""


@contextmanager
def hold_data_dir(data_dir: Path, run_dir: Path) -> Iterator[None]:
    """Hold the directory for the length of a block.

    Raises:
      DataDirInUse: somebody else holds it; the message says who.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "up.lock").open("a+") as file:
        file.seek(0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "unknown"
            raise DataDirInUse(
                f"{data_dir} is in use by `flux-image up` with pid {holder}. "
                "Stop that one, or choose another data directory."
            ) from None
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
