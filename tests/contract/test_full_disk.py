"""A media directory that is really full: nothing is left behind, nothing is claimed, and then all goes on."""

import subprocess

import pytest

from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.domain.status import JobStatus
from shared.settings import WorkerSettings
from shared.storage.local import LocalMediaStorage
from tests.builders import new_job
from tests.contract.scripted import ScriptedGenerator, paint
from tests.factories import demo_report
from tests.stack import wait_for
from worker.build import GpuWorker


class SmallDisk:
    """A file system of its own."""

    def __init__(self, path):
        self.path = path
        self._ballast = path / "ballast"

    def fill(self):
        with self._ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    def free(self):
        self._ballast.unlink()

    def files(self):
        return [path.name for path in self.path.rglob("*") if path.is_file() and path != self._ballast]


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "media"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system needs root: {mounted.stderr.strip()}")
    yield SmallDisk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


def test_the_check_of_the_storage_finds_a_full_disk_and_leaves_nothing(disk):
    storage = LocalMediaStorage(disk.path)
    storage.check()
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        storage.check()
    assert disk.files() == []


def test_jobs_wait_for_a_full_disk_without_losing_tries(disk, database, jobs, broker_url, tmp_path):
    settings = WorkerSettings(
        _env_file=None, data_dir=tmp_path, database_url=str(database.engine.url), redis_url=broker_url
    )
    first, second = jobs.add(new_job(), 10), jobs.add(new_job(), 10)
    worker = GpuWorker(settings, lambda: (ScriptedGenerator(paint), demo_report()))
    worker.start()
    try:
        # Given a disk that fills up before a job is saved
        disk.fill()
        worker.run_next()
        again = wait_for(lambda: (job := jobs.get(first.id)).errors and job, "the job was put back")
        assert (again.status, again.attempts[0].error.code) == (JobStatus.QUEUED, "storage_failed")
        assert disk.files() == []
        # Then the worker claims nothing and says why
        assert worker.run_next().startswith("nothing claimed")
        row = WorkerRepository(database).latest(Lane.GPU)
        assert row.state is WorkerState.UNHEALTHY
        assert row.trouble.startswith("storage: ")
        assert jobs.get(second.id).attempt == 0
        # When there is room again, then it goes on by itself
        disk.free()
        both = (first.id, second.id)

        def done():
            worker.run_next()
            return all(jobs.get(job_id).status is JobStatus.SUCCEEDED for job_id in both)

        wait_for(done, "both jobs are done", seconds=120)
    finally:
        worker.close()
