"""Free space of the file system a path is, or will be, on."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_gigabytes(path: Path) -> float:
    """Return free space in GB (1e9 bytes) of the nearest existing parent's file system."""
    existing = next(candidate for candidate in (path, *path.absolute().parents) if candidate.exists())
    return shutil.disk_usage(existing).free / 1e9
