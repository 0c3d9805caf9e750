"""A job is saved while the next one already runs; at most one is in each half."""

import threading

import pytest
from sqlalchemy import select

from shared.db.claims import ClaimRepository
from shared.db.models import JobRow
from shared.domain.job import Lane
from shared.domain.status import JobStatus, Phase
from shared.storage.local import LocalMediaStorage
from tests.builders import new_job, params
from tests.contract.conftest import LEASE
from tests.contract.scripted import paint, run_to_its_end
from tests.stack import wait_for
from worker.shutdown import Shutdown


class GatedStorage(LocalMediaStorage):
    """A disk that takes as long as the test wants."""

    def __init__(self, root):
        super().__init__(root)
        self.gate = threading.Event()
        self.reached = threading.Event()

    def put(self, key, data):
        self.reached.set()
        assert self.gate.wait(60)
        super().put(key, data)


@pytest.fixture
def slow_disk(tmp_path):
    storage = GatedStorage(tmp_path / "media")
    yield storage
    storage.gate.set()


@pytest.fixture
def files(tmp_path):
    return lambda: sorted(str(path.relative_to(tmp_path / "media")) for path in (tmp_path / "media").rglob("*.*"))


def test_the_next_job_runs_while_the_last_one_is_saved(make_runner, jobs, slow_disk):
    # Given a job whose picture the disk still writes
    first, second = jobs.add(new_job(), 10), jobs.add(new_job(), 10)
    seen = []

    def script(context):
        if context.job.id == second.id:
            seen.append((jobs.get(first.id).status, jobs.get(first.id).phase))
            slow_disk.gate.set()
            seen.append(wait_for(lambda: jobs.get(first.id).is_terminal, "the first job is published"))
        paint(context)

    runner = make_runner(script, storage=slow_disk)
    assert runner.run_next() == f"{first.id} generate demo: saving"
    # When the next one runs, then the first is saved and published beside it
    run_to_its_end(runner)
    assert seen == [(JobStatus.RUNNING, Phase.SAVING), True]
    assert [jobs.get(job.id).status for job in (first, second)] == [JobStatus.SUCCEEDED] * 2


def test_never_more_than_one_job_is_in_each_half(make_runner, jobs, database):
    # Given a repository that looks at all running rows after each change of phase
    seen = []

    class Watching(ClaimRepository):
        def set_phase(self, claim, phase):
            held = super().set_phase(claim, phase)
            with database.read() as connection:
                running = select(JobRow.phase).where(JobRow.status == JobStatus.RUNNING)
                seen.append(sorted(row.phase == Phase.SAVING for row in connection.execute(running)))
            return held

    added = [jobs.add(new_job(params=params(num_images=2)), 10) for _ in range(6)]
    runner = make_runner(lambda context: paint(context, 2), claims=Watching(database))
    for _ in added:
        runner.run_next()
    runner.close()
    # Then there never were two on the same side of the boundary
    assert {tuple(halves) for halves in seen} <= {(False,), (True,), (False, True)}
    assert all(jobs.get(job.id).status is JobStatus.SUCCEEDED for job in added)


def test_a_picture_is_on_disk_before_the_next_one_is_made(make_runner, jobs, files):
    job = jobs.add(new_job(params=params(num_images=2)), 10)

    def script(context):
        paint(context)
        wait_for(lambda: files() == [f"{job.id}/1-0.png"], "the first picture is written")
        paint(context, start=1, count=1)

    run_to_its_end(make_runner(script))
    assert [image.index for image in jobs.get(job.id).images] == [0, 1]


def test_a_full_disk_ends_a_long_job_at_its_next_picture(make_runner, jobs, tmp_path):
    job = jobs.add(new_job(params=params(num_images=8)), 10)
    (tmp_path / "media" / job.id).write_text("a file where the folder should be")
    painted = []

    def script(context):
        for index in range(8):
            paint(context, start=index, count=1)
            painted.append(index)
            wait_for(lambda: all(write.done() for write in context._writes), "the write has ended")

    make_runner(script).run_next()
    assert painted == [0]
    assert jobs.get(job.id).attempts[0].error.code == "storage_failed"


class TestWhileItIsSaved:
    @pytest.fixture
    def saving(self, make_runner, jobs, slow_disk):
        """A runner, and its job that is in the middle of being saved."""
        self.shutdown = Shutdown()
        runner = make_runner(paint, storage=slow_disk, shutdown=self.shutdown)
        job = jobs.add(new_job(), 10)
        runner.run_next()
        assert slow_disk.reached.wait(60)
        return runner, job

    def finish(self, runner, slow_disk):
        slow_disk.gate.set()
        runner.close()

    def test_a_cancel_wins_over_the_end(self, saving, jobs, slow_disk, files):
        runner, job = saving
        assert jobs.request_cancel(job.id).status is JobStatus.RUNNING
        self.finish(runner, slow_disk)
        assert jobs.get(job.id).status is JobStatus.CANCELLED
        assert files() == []

    def test_a_shutdown_waits_for_it(self, saving, jobs, slow_disk, files):
        runner, job = saving
        self.shutdown.ask()
        self.finish(runner, slow_disk)
        assert jobs.get(job.id).status is JobStatus.SUCCEEDED
        assert files() == [f"{job.id}/1-0.png"]

    def test_a_lost_claim_publishes_nothing_and_deletes_its_files(
        self, saving, jobs, claims, rescues, slow_disk, files
    ):
        runner, job = saving
        rescues.rescue_others(Lane.GPU, "w2")
        claims.claim(Lane.GPU, "w2", LEASE)
        self.finish(runner, slow_disk)
        assert (jobs.get(job.id).status, jobs.get(job.id).owner) == (JobStatus.RUNNING, "w2")
        assert files() == []

    def test_its_lease_is_kept(self, saving, jobs, claims, slow_disk, database):
        runner, job = saving

        def lease_end():
            with database.read() as connection:
                return connection.scalar(select(JobRow.lease_expires_at).where(JobRow.id == job.id))

        before = lease_end()
        wait_for(lambda: lease_end() > before, "the lease is renewed")
        self.finish(runner, slow_disk)
