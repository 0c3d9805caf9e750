"""Who holds a file lock, as the kernel says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_KERNEL_LOCKS: Final = Path("/proc/locks")


def holds_lock(pid: int, path: Path) -> bool:
    """Return whether this process holds a ``flock`` on this file, so that its pid cannot be a reused one.

    Form of a line (proc(5)): ``1: FLOCK ADVISORY WRITE pid major:minor:inode start end``; processes of other pid
    namespaces are not seen. The device is not compared, since some file systems show another one in ``stat``.
    """
    try:
        inode = path.stat().st_ino
        lines = _KERNEL_LOCKS.read_text().splitlines()
    except OSError:
        return False
    for fields in map(str.split, lines):
        if fields[1] == "FLOCK" and fields[4] == str(pid) and fields[5].rpartition(":")[2] == str(inode):
            return True
    return False
