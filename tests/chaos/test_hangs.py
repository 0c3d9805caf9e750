"""A worker that hangs or loses its device is replaced, and only the job at fault is counted."""

import pytest

from shared.db.workers import WorkerState
from shared.domain.job import Lane
from tests.chaos.worker_bench import WorkerBench, succeeded

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    # Budgets above what a busy machine needs for a step of 20 ms
    with WorkerBench(tmp_path_factory.mktemp("hangs"), FLUX_STEP_BUDGET_SECONDS="3") as bench:
        yield bench
        assert bench.audit() == []


@pytest.fixture(autouse=True)
def worker(bench):
    bench.start()


@pytest.mark.parametrize(("fault", "code"), [("hang", "worker_hung"), ("lost", "device_lost")])
def test_the_process_ends_itself_and_says_why(bench, fault, code):
    before = bench.child().pid
    job = bench.wait_until_over(bench.submit(fault))
    assert succeeded(job)
    assert [(item.outcome, item.error and item.error.code) for item in job.attempts] == [
        ("rescue", code), ("finish", None),
    ]  # fmt: skip
    assert job.crashes == 1
    assert bench.child().pid != before
    assert succeeded(bench.wait_until_over(bench.submit()))


def test_a_hang_that_holds_the_interpreter_is_ended_from_outside(bench):
    before = bench.child()
    job = bench.wait_until_over(bench.submit("gil"))
    assert succeeded(job)
    assert [item.outcome for item in job.attempts] == ["rescue", "finish"]
    assert not before.is_running()


def test_a_frozen_process_is_ended_from_outside(bench):
    before = bench.child()
    job = bench.wait_until_over(bench.submit("freeze"))
    assert succeeded(job)
    assert job.attempt == 2
    assert not before.is_running()


def test_a_worker_whose_device_is_broken_claims_nothing_until_it_works(bench):
    # Given a device that kills its process twice in a row and then fails the self-test
    broken = bench.data_dir / "broken"
    broken.touch()
    killer = bench.submit("die")
    bench.wait_until(killer, lambda job: job.crashes == 2, "has crashed twice")
    innocent = [bench.submit() for _ in range(3)]
    # Then the worker says so, and no other job is tried
    bench.wait_until(killer, lambda _: bench.state() is WorkerState.UNHEALTHY, "the worker is unhealthy")
    assert bench.workers.latest(Lane.GPU).trouble == "device: the device is broken"
    assert [bench.jobs.get(job_id).attempt for job_id in innocent] == [0, 0, 0]
    # When the device works again, then they are done, and the killer is put away
    broken.unlink()
    assert all(succeeded(bench.wait_until_over(job_id)) for job_id in innocent)
    assert bench.wait_until_over(killer).error.code == "worker_crashed"
