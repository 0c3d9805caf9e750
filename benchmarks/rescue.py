"""How long a job waits after a SIGKILL of the worker's child: from the kill to the start of its next attempt.

The new child imports the GPU stack and loads the default generate model before it claims anything: that is most of it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any, Final

import psutil

from benchmarks.client import Client, UnexpectedAnswer
from benchmarks.figures import Figures, Target, summary
from benchmarks.report import emit, say
from benchmarks.stack import bench_stack

TARGET_SECONDS: Final = 8.0
_LONG_JOB: Final = {"prompt": "a red circle", "width": 512, "height": 512, "num_inference_steps": 50}
_LIMIT_SECONDS: Final = 60.0


def kill_and_wait(client: Client, worker_pid: int, seed: int) -> float:
    """Return the seconds from the kill of the child that runs a job to the start of the job's next attempt."""
    job, _ = client.submit(**_LONG_JOB, seed=seed)
    _until(client, job["id"], lambda seen: seen["progress"]["step"] > 0)
    child = psutil.Process(worker_pid).children()[0]
    killed_at = datetime.now(UTC)
    os.kill(child.pid, signal.SIGKILL)
    again = _until(client, job["id"], lambda seen: seen["attempt"] == 2)
    client.timed("POST", f"/api/jobs/{job['id']}/cancel")
    _until(client, job["id"], lambda seen: seen["status"] == "cancelled")
    return (datetime.fromisoformat(again["attempts"][1]["started_at"]) - killed_at).total_seconds()


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    options = parser.parse_args()
    with bench_stack(flower=False) as stack, Client(stack.api_url) as client:
        say(f"{options.kills} kills ...")
        seconds = [kill_and_wait(client, stack.pids["worker"], seed) for seed in range(options.kills)]
    figures: Figures = {"kill_to_next_attempt_seconds": summary(seconds)}
    emit("rescue", figures, [Target("kill to next attempt, demo model loaded, max", max(seconds), TARGET_SECONDS, "s")])


def _until(client: Client, job_id: str, condition: Any) -> dict[str, Any]:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        seen: dict[str, Any] = json.loads(client.timed("GET", f"/api/jobs/{job_id}")[0])
        if condition(seen):
            return seen
        time.sleep(0.02)
    raise UnexpectedAnswer(f"job {job_id} does not get there: {seen}")


if __name__ == "__main__":
    main()
