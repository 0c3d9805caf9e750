"""What a long queue costs: submits, lists and polls beside 10,000 waiting jobs, and the claim out of them.

The queue is paused, so that it stays as long as it was made; the rows are written straight into the database. Claims
are timed on a copy of that database through the worker's own repository, with one model loaded and one not.
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import insert, select

from benchmarks.client import Client
from benchmarks.commits import CommitProbe
from benchmarks.figures import Figures, Target, median, percentile, summary
from benchmarks.latency import TINY
from benchmarks.report import emit, say
from benchmarks.stack import bench_stack
from shared.clock import utc_now
from shared.db.claims import ClaimRepository
from shared.db.engine import Database, open_database
from shared.db.models import JobRow
from shared.db.queue import QueueRepository
from shared.domain.job import Claim, Lane, Timings
from shared.ids import new_job_id

SUBMIT_TARGET_RATIO: Final = 2.0
READ_TARGET_MS: Final = 50.0
CLAIM_TARGET_MS: Final = 5.0
MEMORY_TARGET_MB: Final = 20.0
LEASE: Final = timedelta(seconds=30)
_OTHER_MODEL: Final = "dev"


def fill(database: Database, count: int) -> list[str]:
    """Add ``count`` copies of the one job that is there, every third for another model; return their ids."""
    ids = [new_job_id() for _ in range(count)]
    with database.write() as connection:
        row = dict(connection.execute(select(*JobRow.__table__.columns).limit(1)).one()._mapping)
        copies = [
            {**row, "id": job_id, "created_at": utc_now()} | ({"residency": _OTHER_MODEL} if number % 3 else {})
            for number, job_id in enumerate(ids)
        ]
        connection.execute(insert(JobRow), copies)
    return ids


def time_submits(client: Client, probe: CommitProbe, count: int) -> list[float]:
    """Return milliseconds to the 202 of each submit."""
    times = []
    for seed in range(count):
        probe.sample()
        times.append(client.submit(**TINY, seed=seed)[1])
    return times


def time_reads(client: Client, paths: list[str], count: int) -> list[float]:
    """Return milliseconds of each of ``count`` requests, over the paths in turn."""
    return [client.timed("GET", paths[number % len(paths)])[1] for number in range(count)]


def time_claims(source: Path, folder: Path, count: int, resident: frozenset[str]) -> list[float]:
    """Return milliseconds of each claim out of a copy of the database; each job is ended before the next is claimed."""
    copy = folder / "claims.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{source}{suffix}", f"{copy}{suffix}")
    database = open_database(f"sqlite:///{copy}")
    QueueRepository(database).resume(Lane.GPU)
    claims, times = ClaimRepository(database), []
    for _ in range(count):
        began = time.perf_counter()
        job = claims.claim(Lane.GPU, "bench", LEASE, resident)
        times.append((time.perf_counter() - began) * 1000)
        assert job is not None
        claims.cancel(Claim(job_id=job.id, attempt=job.attempt, owner="bench"), Timings())
    database.dispose()
    return times


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=9_500, help="waiting jobs; the limit of the queue is 10,000")
    parser.add_argument("--submits", type=int, default=200, help="submits to each queue")
    parser.add_argument("--reads", type=int, default=300, help="requests of each kind, and claims")
    options = parser.parse_args()
    dice = random.Random(1)
    with bench_stack(flower=False) as stack, Client(stack.api_url) as client:
        source = stack.data_dir / "flux-image.db"
        probe = CommitProbe(stack.data_dir)
        client.timed("POST", "/api/queue/pause")
        say(f"{options.submits} submits to an empty queue ...")
        time_submits(client, probe, 20)
        empty = time_submits(client, probe, options.submits)
        memory_before = _megabytes(stack.pids["api"])
        say(f"{options.queued} more jobs ...")
        database = open_database(f"sqlite:///{source}")
        ids = fill(database, options.queued)
        database.dispose()
        full = time_submits(client, probe, options.submits)
        polled = [f"/api/jobs/{dice.choice(ids)}" for _ in range(50)]
        reads = {
            "poll": time_reads(client, polled, options.reads),
            "list": time_reads(client, ["/api/jobs?limit=50"], options.reads),
            "list_queued": time_reads(client, ["/api/jobs?status=queued&limit=50"], options.reads),
            "queue": time_reads(client, ["/api/queue"], options.reads),
        }
        memory_after = _megabytes(stack.pids["api"])
        claims = {
            "nothing_loaded": time_claims(source, stack.data_dir, options.reads, frozenset()),
            "other_model_loaded": time_claims(source, stack.data_dir, options.reads, frozenset({_OTHER_MODEL})),
        }
        probe.close()
    commit = median(probe.times_ms)
    ratio = (percentile(full, 95) - commit) / (percentile(empty, 95) - commit)
    figures: Figures = {
        "queued": options.queued,
        "submit_empty_ms": _summary(empty),
        "submit_full_ms": _summary(full),
        "full_commit_ms": summary(probe.times_ms),
        **{f"{name}_ms": _summary(times) for name, times in reads.items()},
        **{f"claim_{name}_ms": _summary(times) for name, times in claims.items()},
        "api_rss_before_mb": memory_before,
        "api_rss_after_mb": memory_after,
    }
    targets = [
        Target("submit p95, full over empty queue, each minus 1 FULL commit", ratio, SUBMIT_TARGET_RATIO, "x"),
        *(Target(f"{name}, p95", percentile(times, 95), READ_TARGET_MS, "ms") for name, times in reads.items()),
        *(
            Target(f"claim, {name}, p95", percentile(times, 95), CLAIM_TARGET_MS, "ms")
            for name, times in claims.items()
        ),
        Target("growth of the API's memory", memory_after - memory_before, MEMORY_TARGET_MB, "MB"),
    ]
    emit("queue", figures, targets)


def _summary(times: list[float]) -> Figures:
    return {**summary(times), "p95": round(percentile(times, 95), 3)}


def _megabytes(pid: int) -> float:
    return round(psutil.Process(pid).memory_info().rss / 1_000_000, 1)


if __name__ == "__main__":
    main()
