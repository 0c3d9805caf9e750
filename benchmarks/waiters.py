"""Whether 300 requests that wait for their jobs keep others waiting: ``GET /health`` at a steady rate beside them.

Three phases: nobody waits; 300 long polls on 300 jobs are open; all of them run out at the same moment and are
answered together. The worker computes all the time. The waiting side costs this process nothing while it measures:
requests are written to plain sockets, and the answers are read only afterwards.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from benchmarks.client import Client, UnexpectedAnswer
from benchmarks.figures import Figures, Target, percentile, summary
from benchmarks.report import emit, say
from benchmarks.stack import bench_stack

TARGET_MS: Final = 100.0
_PAUSE_SECONDS: Final = 0.025
_LONG_JOB: Final = {"prompt": "a red circle", "width": 768, "height": 768, "num_inference_steps": 50}
_BUSY_LIMIT_SECONDS: Final = 30.0


class Waiters:
    """Open long polls, one socket each."""

    def __init__(self, api_url: str) -> None:
        host, _, port = urlsplit(api_url).netloc.rpartition(":")
        self._address = (host, int(port))
        self._sockets: list[socket.socket] = []

    def wait_for(self, job_id: str, seconds: float) -> None:
        """Send one request and leave it open."""
        connection = socket.create_connection(self._address, timeout=60)
        request = f"GET /api/jobs/{job_id}?wait={seconds:.3f} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        self._sockets.append(connection)

    def answers(self) -> list[str]:
        """Read all answers and return the status of each job in them.

        Raises:
          UnexpectedAnswer: one of them is no 200.
        """
        return [_answer(connection) for connection in self._sockets]

    def close(self) -> None:
        """Hang up."""
        for connection in self._sockets:
            connection.close()


def probe_health(client: Client, until: Callable[[], bool]) -> list[float]:
    """Ask for ``/health`` at a steady rate; return the milliseconds of each answer."""
    times = []
    due = time.monotonic()
    while not until():
        # A late answer delays no later one's start by more than itself: the rate is of starts.
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + _PAUSE_SECONDS, time.monotonic() - _PAUSE_SECONDS)
        times.append(client.timed("GET", "/health")[1])
    return times


def after(moment: float) -> Callable[[], bool]:
    """Return whether ``moment`` of the monotonic clock has passed."""
    return lambda: time.monotonic() >= moment


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiters", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each phase")
    options = parser.parse_args()
    with bench_stack() as stack, Client(stack.api_url) as client:
        job_ids = [client.submit(**_LONG_JOB, seed=seed)[0]["id"] for seed in range(options.waiters)]
        _until_running(client, job_ids[0])
        say("nobody waits ...")
        alone = probe_health(client, after(time.monotonic() + options.seconds))
        waiters = Waiters(stack.api_url)
        began = time.monotonic()
        end = began + options.seconds + 5
        for job_id in job_ids:
            waiters.wait_for(job_id, end - time.monotonic())
        say(f"{len(job_ids)} wait; all sent after {time.monotonic() - began:.2f} s ...")
        waiting = probe_health(client, after(end - 0.2))
        say("they run out ...")
        answered = probe_health(client, after(end + options.seconds / 3))
        statuses = waiters.answers()
        waiters.close()
        for job_id in job_ids:
            client.timed("POST", f"/api/jobs/{job_id}/cancel")
    figures: Figures = {
        "waiters": len(job_ids),
        "health_requests_per_second": round(1 / _PAUSE_SECONDS),
        "health_alone_ms": summary(alone),
        "health_while_waiting_ms": summary(waiting),
        "health_while_all_are_answered_ms": summary(answered),
        "waiters_answered": len(statuses),
        "jobs_still_queued_or_running": sum(status in ("queued", "running") for status in statuses),
    }
    targets = [
        Target(f"/health while {len(job_ids)} wait, p99", percentile(waiting, 99), TARGET_MS, "ms"),
        Target(f"/health while {len(job_ids)} are answered at once, p99", percentile(answered, 99), TARGET_MS, "ms"),
    ]
    emit("waiters", figures, targets)


def _until_running(client: Client, job_id: str) -> None:
    deadline = time.monotonic() + _BUSY_LIMIT_SECONDS
    while json.loads(client.timed("GET", f"/api/jobs/{job_id}")[0])["status"] != "running":
        if time.monotonic() > deadline:
            raise UnexpectedAnswer(f"job {job_id} does not start")
        time.sleep(0.1)


def _answer(connection: socket.socket) -> str:
    with connection.makefile("rb") as stream:
        head, _, body = stream.read().partition(b"\r\n\r\n")
    status_line = head.partition(b"\r\n")[0]
    if b" 200 " not in status_line:
        raise UnexpectedAnswer(f"a waiter got {status_line.decode(errors='replace')!r}")
    return str(json.loads(body)["status"])


if __name__ == "__main__":
    main()
