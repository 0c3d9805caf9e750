"""``python -m tests.chaos.soak``: thousands of jobs under random faults, then the verdict over every row and file.

The last line of stdout is one JSON object: submitted, lost, duplicated, unexpected, recovered, violations, and how
often each fault struck. Exit code 1 when a promise was broken. The same seed gives the same faults in the same order.
A run that was cut off goes on with the same ``--folder``, and the verdict is over all of it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select

from benchmarks.report import circumstances
from shared.db.models import JobRow
from shared.domain.status import TERMINAL_STATUSES, JobStatus
from tests.chaos.clock import set_offset
from tests.chaos.nemesis import Nemesis, cancel_one, supervised
from tests.chaos.oracle import History
from tests.chaos.rig import PATIENCE_SECONDS, Rig, running_rig
from tests.chaos.worker_root import POISON

MOST_WAITING: Final = 40
UNLUCKY: Final = ("worker_crashed", "storage_failed", "out_of_memory")
"""Stated ends of a job that chance hit as often as the limit allows."""


def main() -> int:
    """Run, and print the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="submits in all")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between two faults")
    parser.add_argument("--folder", type=Path, help="where everything is kept; one that exists is gone on with")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="flux-soak-"))
    print(f"everything is kept in {folder}", file=sys.stderr)
    began = time.monotonic()
    with running_rig(folder / "data") as rig:
        memory = Memory(folder / "history.jsonl", rig.history)
        struck = soak(rig, memory, options.jobs, options.pause, random.Random(options.seed))
        verdict = rig.judge()
        logs = "" if verdict.is_clean else rig.logs()
    for kind in ("lost", "duplicated", "unexpected", "violations"):
        for item in getattr(verdict, kind):
            print(f"{kind}: {item}", file=sys.stderr)
    print(logs, file=sys.stderr)
    seconds = round(time.monotonic() - began, 1)
    for name, count in verdict.as_json().items():
        print(f"{name:<12}{count:>8}")
    figures = {**verdict.as_json(), "seconds": seconds, "seed": options.seed, "faults": dict(struck)}
    print(json.dumps({**figures, **circumstances("tests.chaos.soak", sys.argv[1:], weights="none: stub generator")}))
    return 0 if verdict.is_clean and verdict.submitted == options.jobs else 1


def soak(rig: Rig, memory: Memory, jobs: int, pause: float, dice: random.Random) -> Counter[str]:
    """Submit and strike until ``jobs`` are submitted, then let everything come to rest; return the faults."""
    struck: Counter[str] = Counter()
    nemesis = Nemesis(rig, dice)
    client = threading.Thread(target=submit_all, args=(rig, memory, jobs, random.Random(dice.random())), name="client")
    with supervised(rig):
        client.start()
        while client.is_alive():
            client.join(dice.uniform(0, 2 * pause))
            struck[nemesis.strike()] += 1
            if dice.random() < 0.3:
                cancel_one(rig, dice)
            print(f"\r{len(rig.history.accepted)} accepted, {sum(struck.values())} faults", end="", file=sys.stderr)
        nemesis.close()
        wait_for_rest(rig)
    set_offset(rig.data_dir, timedelta(0))
    return struck


def submit_all(rig: Rig, memory: Memory, jobs: int, dice: random.Random) -> None:
    """Submit until there are as many as wanted, never letting the queue run long or dry."""
    for seed in range(len(rig.history.attempted) + 1, jobs + 1):
        while _open_jobs(rig) >= MOST_WAITING:
            time.sleep(0.05)  # the queue is what is looked at; a signal per job would be another thing under test
        poison = dice.random() < 0.002
        params: dict[str, Any] = {
            "num_inference_steps": dice.randint(1, 6),
            "num_images": dice.choice((1, 1, 1, 3)),
            "job_class": dice.choice(("interactive", "normal", "normal", "background")),
            **({"prompt": POISON} if poison else {}),
        }
        memory.attempt(seed)
        rig.history.explained[seed] = UNLUCKY[:1] if poison else (JobStatus.SUCCEEDED, *UNLUCKY)
        memory.accept(seed, rig.submit_as(seed, **params))


class Memory:
    """The client's notebook, so that a run that was cut off can be gone on with."""

    def __init__(self, path: Path, history: History) -> None:
        self._path = path
        self._history = history
        for line in path.read_text().splitlines() if path.exists() else ():
            seed, *job_id = json.loads(line)
            history.attempted.add(seed)
            history.explained[seed] = (*JobStatus, *UNLUCKY)
            history.accepted.update({seed: job_id[0]} if job_id else {})

    def attempt(self, seed: int) -> None:
        self._history.attempted.add(seed)
        self._note(seed)

    def accept(self, seed: int, job_id: str) -> None:
        self._note(seed, job_id)

    def _note(self, *words: object) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(words) + "\n")


def wait_for_rest(rig: Rig) -> None:
    """Return when no job waits or runs.

    Raises:
      AssertionError: nothing has moved for a long time.
    """
    left, moved_at = _open_jobs(rig), time.monotonic()
    while left:
        time.sleep(0.2)
        now_left = _open_jobs(rig)
        if now_left < left:
            left, moved_at = now_left, time.monotonic()
        assert time.monotonic() - moved_at < PATIENCE_SECONDS, f"{left} jobs do not end\n{rig.logs()}"


def _open_jobs(rig: Rig) -> int:
    query = select(func.count()).select_from(JobRow).where(JobRow.status.not_in(TERMINAL_STATUSES))
    with rig.database.read() as connection:
        return connection.scalar(query) or 0


if __name__ == "__main__":
    sys.exit(main())
