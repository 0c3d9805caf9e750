"""What every result says besides its figures: where, when, with which versions and by which command."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil
import pysqlite3.dbapi2

from benchmarks.figures import Figures, Target

_PACKAGES: Final = ("torch", "diffusers", "celery", "fastapi", "uvicorn")
_ROOT: Final = Path(__file__).parent.parent


def say(line: str) -> None:
    """Tell the person who waits; stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


DEMO_WEIGHTS: Final = "demo, trained (worker/demo/checkpoint)"


def emit(benchmark: str, figures: Figures, targets: Sequence[Target], weights: str = DEMO_WEIGHTS) -> None:
    """Print the result as the last line of stdout."""
    result = {
        "benchmark": benchmark,
        "figures": figures,
        "targets": [target.as_json() for target in targets],
        **circumstances(benchmark, sys.argv[1:], weights),
    }
    last_line(result)


def last_line(result: Figures) -> None:
    """Print a result where whoever started this script reads it."""
    print(json.dumps(result), flush=True)


def last_object(output: str) -> Figures:
    """Return the JSON object in the last line of a script's output.

    Raises:
      ValueError: the last line is no JSON object.
    """
    lines = output.strip().splitlines()
    result = json.loads(lines[-1]) if lines else None
    if not isinstance(result, dict):
        raise ValueError("the last line is no JSON object")
    return result


def circumstances(benchmark: str, arguments: Sequence[str], weights: str = DEMO_WEIGHTS) -> Figures:
    """Return everything a reader needs to judge and to repeat a run."""
    return {
        "command": " ".join(["python -m", f"benchmarks.{benchmark}", *arguments]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "versions": versions(),
        "weights": weights,
    }


def machine() -> Figures:
    """Return processor, cores, memory, and how much of it others took: the load counts their processes and ours."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "niceness": os.nice(0),
    }


def versions() -> Figures:
    """Return the versions that move the figures."""
    found: Figures = {"python": platform.python_version(), "sqlite": pysqlite3.dbapi2.sqlite_version}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    """Return the commit that was measured, marked when the tree differs from it."""
    command = ("git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
