"""However the worker is told to stop, no job is lost, and a polite stop costs no try."""

import signal

import pytest

from tests.chaos.worker_bench import WorkerBench, succeeded

pytestmark = pytest.mark.timeout(400)

TERM, INT, QUIT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with WorkerBench(tmp_path_factory.mktemp("signals")) as bench:
        yield bench
        assert bench.audit() == []


@pytest.mark.parametrize("signals", [(TERM, TERM), (INT,)], ids=["TERM TERM", "INT"])
def test_a_polite_stop_hands_the_job_back_uncounted(bench, signals):
    bench.start()
    job_id = bench.submit("stay")
    waiting = bench.submit()
    bench.wait_until_denoising(job_id)
    bench.stop(*signals)
    assert bench.jobs.get(job_id).attempts[0].outcome == "release"
    bench.start()
    job = bench.wait_until_over(job_id)
    assert succeeded(job)
    assert (job.attempt, job.crashes, job.errors) == (2, 0, 0)
    assert succeeded(bench.wait_until_over(waiting))


@pytest.mark.parametrize("signals", [(INT, INT), (QUIT,), (KILL,)], ids=["INT INT", "QUIT", "KILL"])
def test_a_rude_stop_loses_nothing(bench, signals):
    bench.start()
    job_id = bench.submit("stay")
    waiting = bench.submit()
    bench.wait_until_denoising(job_id)
    bench.stop(*signals)
    bench.start()
    assert succeeded(bench.wait_until_over(job_id))
    assert succeeded(bench.wait_until_over(waiting))


def test_within_the_grace_time_the_running_job_is_finished(tmp_path):
    with WorkerBench(tmp_path, FLUX_SHUTDOWN_GRACE_SECONDS="100") as bench:
        # Given a running job that has not ended when the worker hears that it is to stop
        bench.start()
        job_id, waiting = bench.submit("stay"), bench.submit()
        bench.wait_until_denoising(job_id)
        bench.send(TERM)
        bench.wait_for_log("shutting down")
        # When it ends, then that one is finished, and no other is begun
        (tmp_path / "go on").touch()
        assert bench.wait_for_end() == 0
        job = bench.jobs.get(job_id)
        assert (succeeded(job), job.attempt) == (True, 1)
        assert bench.jobs.get(waiting).attempt == 0
        assert bench.audit() == []
