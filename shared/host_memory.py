"""What this machine's memory really offers, a container's limit included, and what limits pinning.

The kernel's own words: ``/proc/meminfo`` (proc_meminfo(5)), control groups version 2 (``memory.max``,
``memory.current``, ``memory.stat``) and version 1 (``memory.limit_in_bytes`` and the like) (kernel documentation).

The limit on locked memory (``RLIMIT_MEMLOCK``, getrlimit(2)) is named where pinning is refused, but not budgeted for:
NVIDIA's driver on Linux locks pages by its own means and does not count them there, and the usual limit of 8 MiB would
forbid what works.
"""

from __future__ import annotations

import platform
import resource
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def available_bytes(root: Path = _ROOT) -> int:
    """Return the bytes that this process can still take without making anything else leave memory.

    ``root`` is where ``proc`` and ``sys`` are.
    """
    return min([_meminfo(root)["MemAvailable"], *_left_in_groups(root)])


def is_wsl() -> bool:
    """Whether this is Linux inside Windows, whose driver limits pinned memory."""
    return "microsoft" in platform.uname().release.lower()


def pinning_limit(in_wsl: bool | None = None) -> str:
    """Return what may limit pinned memory here, and what to do, in one sentence or two."""
    if is_wsl() if in_wsl is None else in_wsl:
        return (
            "WSL2 limits pinned memory: give it more with `memory=` in .wslconfig, or use Linux itself, where it is "
            "not limited."
        )
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    known = "" if locked == resource.RLIM_INFINITY else f" The limit on locked memory (ulimit -l) is {locked} bytes."
    return f"Something limits pinned memory: the driver, the container or too little free memory.{known}"


def _meminfo(root: Path) -> dict[str, int]:
    """Return the kernel's figures in bytes."""
    pairs = (line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what every control group around this process leaves, its own first."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        # In a container the path may be one of the host's: then the group's own files are at the top.
        for folder in (group, *group.parents) if group.is_dir() else (top,):
            left = _left_in(folder, *names)
            if left is not None:
                yield left
            if folder == top:
                break


def _left_in(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    """Return what a group leaves: its limit less its use, of which old pages of files may go. ``None``: no limit."""
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - used + int(statistics.get(cache, 0)))
