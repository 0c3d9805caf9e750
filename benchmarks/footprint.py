"""How long ``flux-image --help`` takes, and how much memory each process of the stack holds.

Resident memory counts pages shared between processes in each of them; the proportional size (PSS) of a part divides
them fairly, so the stack's sum is of those.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import Final

import psutil

from benchmarks.client import Client
from benchmarks.figures import Figures, Target, median, summary
from benchmarks.latency import TINY
from benchmarks.report import emit, say
from benchmarks.stack import bench_stack

HELP_TARGET_MS: Final = 300.0
API_TARGET_MB: Final = 150.0
_MB: Final = 1_000_000
_HELP: Final = (sys.executable, "-m", "cli", "--help")


def time_help(count: int) -> list[float]:
    """Return the milliseconds of each start; a first one, which may have to compile, is not counted."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(count + 1):
        began = time.perf_counter()
        subprocess.run(_HELP, check=True, stdout=subprocess.DEVNULL, env=env)
        times.append((time.perf_counter() - began) * 1000)
    return times[1:]


def memory(pid: int) -> Figures:
    """Return megabytes of a part: resident of its largest process, proportional of it with all its children."""
    parent = psutil.Process(pid)
    sizes = [process.memory_full_info() for process in (parent, *parent.children(recursive=True))]
    return {
        "processes": len(sizes),
        "rss_mb": round(max(size.rss for size in sizes) / _MB, 1),
        "pss_mb": round(sum(size.pss for size in sizes) / _MB, 1),
    }


def use(client: Client, count: int) -> None:
    """Send ``count`` requests of the kinds a page sends, most of them reads."""
    job, _ = client.submit(**TINY, seed=0)
    image_url = client.finished(job["id"])["images"][0]["url"]
    reads = ("/health", "/health/ready", f"/api/jobs/{job['id']}", "/api/jobs", "/api/models", image_url)
    for index in range(count - 2):
        if index % 10 == 0:
            job, _ = client.submit(**TINY, seed=index)
        else:
            client.timed("GET", reads[index % len(reads)])
    client.finished(job["id"])


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20, help="starts of the command line")
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    say(f"flux-image --help, {options.starts} times ...")
    help_ms = time_help(options.starts)
    with bench_stack() as stack:
        at_start = {name: memory(pid) for name, pid in stack.pids.items()}
        with Client(stack.api_url) as client:
            say(f"{options.requests} requests ...")
            use(client, options.requests)
        after_use = {name: memory(pid) for name, pid in stack.pids.items()}
    figures: Figures = {
        "help_ms": summary(help_ms),
        "requests": options.requests,
        "after_start": at_start,
        "after_requests": after_use,
        "stack_pss_mb": round(sum(part["pss_mb"] for part in after_use.values()), 1),
    }
    targets = [
        Target("flux-image --help, p50", median(help_ms), HELP_TARGET_MS, "ms"),
        Target("API process, resident, after start", at_start["api"]["rss_mb"], API_TARGET_MB, "MB"),
        Target(
            f"API process, resident, after {options.requests} requests",
            after_use["api"]["rss_mb"],
            API_TARGET_MB,
            "MB",
        ),
    ]
    emit("footprint", figures, targets)


if __name__ == "__main__":
    main()
