"""What the reconciler does about a lease that ran out; the hung worker is a real process with a real lock."""

import signal
import socket
import subprocess
import sys

import pytest
from sqlalchemy.exc import OperationalError

from api.services.silent_workers import SilentWorkers
from shared.db.workers import WorkerRepository
from shared.domain.job import Lane
from shared.domain.status import JobStatus
from shared.file_locks import holds_lock
from tests.builders import make_impatient, new_job
from tests.unit.test_repository import LEASE

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from worker.gpu_lock import GpuLock
lock = GpuLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def lock_path(tmp_path):
    return tmp_path / "run" / "gpu.lock"


@pytest.fixture
def holder(lock_path):
    """A process that owns the GPU and gives no sign of life."""
    process = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, lock_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def workers(database, clock):
    return WorkerRepository(database, clock)


@pytest.fixture
def silent(rescues, workers, lock_path):
    return SilentWorkers(rescues, workers, lock_path)


def run_a_job(jobs, claims, clock):
    job = jobs.add(new_job(), 100)
    claims.claim(Lane.GPU, "w1", LEASE)
    clock.now += LEASE
    return job


def test_a_hung_worker_is_ended_and_its_job_rescued_one_round_later(silent, jobs, claims, workers, clock, holder):
    workers.register("w1", Lane.GPU, socket.gethostname(), holder.pid, heartbeat_seconds=5)
    job = run_a_job(jobs, claims, clock)
    silent.rescue()
    assert jobs.get(job.id).status is JobStatus.RUNNING
    silent.rescue()
    assert holder.wait(60) == -signal.SIGKILL
    assert (jobs.get(job.id).status, jobs.get(job.id).crashes) == (JobStatus.QUEUED, 1)


def test_a_worker_that_speaks_again_within_a_round_keeps_its_job(silent, jobs, claims, rescues, clock):
    # Given a machine that slept, or a clock that jumped
    run_a_job(jobs, claims, clock)
    (claim,) = rescues.expired()
    silent.rescue()
    claims.heartbeat(claim, LEASE)
    silent.rescue()
    assert jobs.get(claim.job_id).status is JobStatus.RUNNING


@pytest.mark.parametrize("stranger", ["on another host", "without the lock"])
def test_a_process_that_may_be_somebody_else_is_left_alone(
    silent, jobs, claims, workers, clock, holder, lock_path, stranger
):
    if stranger == "without the lock":  # as a process that was given the dead worker's pid
        lock_path.unlink()
        lock_path.touch()
    host = "elsewhere" if stranger == "on another host" else socket.gethostname()
    workers.register("w1", Lane.GPU, host, holder.pid, heartbeat_seconds=5)
    job = run_a_job(jobs, claims, clock)
    silent.rescue()
    silent.rescue()
    assert holder.poll() is None
    assert jobs.get(job.id).status is JobStatus.QUEUED


def test_nobody_is_silent_while_the_database_takes_no_writes(silent, jobs, claims, rescues, clock, database):
    # Given a database that somebody has locked, and a lease that ran out for that reason
    job = run_a_job(jobs, claims, clock)
    (claim,) = rescues.expired()
    make_impatient(database)
    with database.write():
        for _ in range(2):
            with pytest.raises(OperationalError, match="locked"):
                silent.rescue()
    # When it is free again, then the worker has a round's time to renew its lease
    silent.rescue()
    claims.heartbeat(claim, LEASE)
    silent.rescue()
    assert jobs.get(job.id).status is JobStatus.RUNNING


def test_the_kernel_tells_who_holds_a_lock(lock_path, holder):
    assert holds_lock(holder.pid, lock_path)
    assert not holds_lock(1, lock_path)
    assert not holds_lock(holder.pid, lock_path.parent / "none")
