"""Hangs, lost devices and a database that takes no writes: what the runner does, with everything real but the kill."""

import threading

import pytest
from sqlalchemy import text

from shared.domain.errors import DeviceLost
from shared.domain.status import JobStatus, Phase
from tests.builders import make_impatient, new_job
from tests.contract.conftest import LEASE
from tests.contract.scripted import paint, run_to_its_end
from tests.contract.test_overlap import GatedStorage
from tests.stack import wait_for
from worker.budgets import Budgets
from worker.cancellation import JobInterrupted
from worker.runner import RunnerLimits
from worker.shutdown import Shutdown


def limits(**budgets):
    return RunnerLimits(LEASE, heartbeat_seconds=0.02, budgets=Budgets(**budgets))


@pytest.fixture
def ended():
    """Stands in for the end of the process: the reasons for it, and a way to wait for one."""

    class Ended(list):
        def __init__(self):
            self.happened = threading.Event()

        def __call__(self, reason):
            self.append(reason)
            self.happened.set()

    return Ended()


@pytest.mark.parametrize(
    ("phase", "budget"),
    [
        (Phase.LOADING, "load_seconds"),
        (Phase.ENCODING, "phase_seconds"),
        (Phase.DENOISING, "first_step_seconds"),
        (Phase.DECODING, "phase_seconds"),
    ],
)
def test_a_hang_in_any_phase_ends_the_process_and_counts_as_a_crash_of_its_job(make_runner, jobs, ended, phase, budget):
    job = jobs.add(new_job(), 10)

    def hang(context):
        context.on_phase(phase)
        assert ended.happened.wait(60)
        context.raise_if_cancelled()

    make_runner(hang, limits=limits(**{budget: 0.05}), end_process=ended).run_next()
    back = jobs.get(job.id)
    assert (back.status, back.crashes, back.errors) == (JobStatus.QUEUED, 1, 0)
    assert (back.attempts[0].outcome, back.attempts[0].error.code) == ("rescue", "worker_hung")
    assert ended == [f"There was no progress in the phase {phase} for 0.05 s."]


def test_a_hang_between_steps_is_noticed_and_steps_are_signs_of_life(make_runner, jobs, ended):
    job = jobs.add(new_job(), 10)

    def hang(context):
        context.on_phase(Phase.DENOISING)
        for step in range(1, 5):
            context.on_step(step, 50)
        assert ended.happened.wait(60)

    make_runner(hang, limits=limits(step_seconds=0.05), end_process=ended).run_next()
    assert ended == ["There was no progress in the phase denoising for 0.05 s."]
    assert jobs.get(job.id).crashes == 1


def test_a_hanging_disk_costs_the_job_beside_it_nothing(make_runner, jobs, ended, tmp_path):
    # Given a job whose picture the disk never takes, and the next one that runs already
    disk = GatedStorage(tmp_path / "media")
    saved, running = jobs.add(new_job(), 10), jobs.add(new_job(), 10)

    def script(context):
        if context.job.id == running.id:
            assert ended.happened.wait(60)
            disk.gate.set()
        paint(context)

    runner = make_runner(script, storage=disk, limits=limits(phase_seconds=2), end_process=ended)
    runner.run_next()
    runner.run_next()
    # Then the first one is counted as crashed, and the other is handed back uncounted
    assert jobs.get(saved.id).attempts[0].error.code == "worker_hung"
    other = jobs.get(running.id)
    assert (other.status, other.crashes, other.attempts[0].outcome) == (JobStatus.QUEUED, 0, "release")


def test_a_lost_device_puts_the_job_back_after_the_one_before_it_is_saved(make_runner, jobs, ended):
    first, second = jobs.add(new_job(), 10), jobs.add(new_job(), 10)

    def script(context):
        paint(context)
        if context.job.id == second.id:
            raise DeviceLost("The device failed: CUDA error: an illegal memory access was encountered")

    runner = make_runner(script, end_process=ended)
    runner.run_next()
    assert runner.run_next().endswith("device_lost")
    assert jobs.get(first.id).status is JobStatus.SUCCEEDED
    back = jobs.get(second.id)
    assert (back.status, back.crashes, back.attempts[0].error.code) == (JobStatus.QUEUED, 1, "device_lost")
    assert len(ended) == 1


def test_a_lost_device_in_the_self_test_ends_the_process_too(make_runner, ended):
    def lose(context):
        raise DeviceLost("The device failed.")

    runner = make_runner(lose, end_process=ended)
    with pytest.raises(DeviceLost):
        runner.try_out("demo")
    assert ended == ["The device failed."]


class TestWhileTheDatabaseIsLocked:
    @pytest.fixture
    def lock(self, database):
        """Take and give back the database's write lock, from another connection."""
        make_impatient(database)
        held = database.engine.connect().execution_options(write="FULL")
        held.connection.driver_connection.execute("PRAGMA busy_timeout=60000")  # it is no writer under test

        class Lock:
            def take(self):
                held.execute(text("SELECT 1"))

            give_back = staticmethod(held.rollback)

        yield Lock()
        held.close()

    def test_a_finished_job_is_published_as_soon_as_it_can_be(self, make_runner, jobs, lock, tmp_path):
        job, taken = jobs.add(new_job(), 10), threading.Event()

        def script(context):
            paint(context)
            lock.take()
            taken.set()

        thread = threading.Thread(target=make_runner(script).run_next)
        thread.start()
        wait_for(lambda: list((tmp_path / "media").rglob("*.png")), "the picture is on disk")
        assert taken.wait(60)
        assert jobs.get(job.id).status is JobStatus.RUNNING
        lock.give_back()
        thread.join()
        wait_for(lambda: jobs.get(job.id).status is JobStatus.SUCCEEDED, "the job is published")

    def test_a_phase_that_cannot_be_recorded_stops_nothing(self, make_runner, jobs, lock):
        job = jobs.add(new_job(), 10)

        def script(context):
            lock.take()
            context.on_phase(Phase.DENOISING)
            context.on_step(1, 1)
            lock.give_back()
            paint(context)

        run_to_its_end(make_runner(script))
        assert jobs.get(job.id).status is JobStatus.SUCCEEDED

    def test_a_process_that_has_to_end_leaves_the_job_to_the_next_one(self, make_runner, jobs, rescues, lock):
        job = jobs.add(new_job(), 10)
        shutdown = Shutdown()

        def script(context):
            lock.take()
            shutdown.ask()
            context.raise_if_cancelled()

        assert make_runner(script, shutdown=shutdown).run_next().endswith("not recorded")
        lock.give_back()
        assert rescues.rescue_others(job.lane, "next") == [job.id]


def test_a_cancel_at_any_phase_boundary_ends_the_job_there(make_runner, jobs, channel):
    for phase in (Phase.ENCODING, Phase.DENOISING, Phase.DECODING):
        job = jobs.add(new_job(), 10)

        def script(context, phase=phase, job=job):
            jobs.request_cancel(job.id)
            channel.hint_cancel(job.id)
            context.on_phase(phase)  # reports, and hears of it
            with pytest.raises(JobInterrupted):
                context.raise_if_cancelled()
            context.raise_if_cancelled()

        assert make_runner(script).run_next().endswith("cancelled")
