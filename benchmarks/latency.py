"""How soon a submit is answered, and how soon an idle worker starts it.

Two phases, both with tiny jobs (64 x 64, one step). *Idle*: one job at a time, the stack at rest before each; gives
the wait from the committed row to the worker's claim. *Busy*: the worker always has a next job, the queue is bounded;
the API shares the processor with the model.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from typing import Final

from benchmarks.client import Client
from benchmarks.commits import CommitProbe
from benchmarks.figures import Figures, Target, median, minus_commits, percentile, summary
from benchmarks.report import emit, say
from benchmarks.stack import bench_stack

TINY: Final = {"prompt": "a red circle", "width": 64, "height": 64, "num_inference_steps": 1}
SUBMIT_TARGET_MS: Final = 10.0
START_TARGET_MS: Final = 15.0
SLOWEST_START_TARGET_MS: Final = 60.0
COMMITS: Final = 1
"""Durable commits between the request and the 202, and between the row's time of creation and the claim: the row's."""

_WARM_UP: Final = 10
_REST_SECONDS: Final = 0.2
_MOST_QUEUED: Final = 4


def measure_idle(client: Client, probe: CommitProbe, count: int) -> tuple[list[float], list[float]]:
    """Return milliseconds to the 202, and from there to the worker's start, of jobs submitted to a stack at rest."""
    submits, starts = [], []
    for seed in range(count):
        time.sleep(_REST_SECONDS)
        probe.sample()
        job, took = client.submit(**TINY, seed=seed)
        submits.append(took)
        starts.append(client.finished(job["id"])["timings"]["queue_wait_seconds"] * 1000)
    return submits, starts


def measure_busy(client: Client, probe: CommitProbe, count: int) -> list[float]:
    """Return milliseconds to the 202 while the worker has work all the time."""
    submits = []
    queued: deque[str] = deque()
    for seed in range(count):
        if len(queued) >= _MOST_QUEUED:
            client.finished(queued.popleft())
        probe.sample()
        job, took = client.submit(**TINY, seed=seed)
        submits.append(took)
        queued.append(job["id"])
    for job_id in queued:
        client.finished(job_id)
    return submits


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submits", type=int, default=240, help="submits to the busy stack")
    parser.add_argument("--idle", type=int, default=300, help="submits to the stack at rest")
    options = parser.parse_args()
    with bench_stack() as stack, Client(stack.api_url) as client:
        probe = CommitProbe(stack.data_dir)
        for seed in range(_WARM_UP):
            client.finished(client.submit(**TINY, seed=seed)[0]["id"])
        say(f"{options.idle} jobs, one at a time ...")
        idle_submits, starts = measure_idle(client, probe, options.idle)
        say(f"{options.submits} jobs, the worker always busy ...")
        busy_submits = measure_busy(client, probe, options.submits)
        probe.close()
    figures: Figures = {
        "submit_idle_ms": summary(idle_submits),
        "submit_busy_ms": summary(busy_submits),
        "idle_enqueue_to_start_ms": summary(starts),
        "full_commit_ms": summary(probe.times_ms),
        "commits_subtracted": COMMITS,
    }

    def net(times: list[float]) -> float:
        return minus_commits(median(times), COMMITS, probe.times_ms)

    targets = [
        Target("submit to 202, stack idle, p50 minus 1 FULL commit", net(idle_submits), SUBMIT_TARGET_MS, "ms"),
        Target("submit to 202, worker busy, p50 minus 1 FULL commit", net(busy_submits), SUBMIT_TARGET_MS, "ms"),
        Target("idle enqueue to worker start, p50 minus 1 FULL commit", net(starts), START_TARGET_MS, "ms"),
        Target("idle enqueue to worker start, p99", percentile(starts, 99), SLOWEST_START_TARGET_MS, "ms"),
    ]
    emit("latency", figures, targets)


if __name__ == "__main__":
    main()
