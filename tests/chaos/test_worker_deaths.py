"""A worker that dies at any moment of a job, freezes, or meets a job that kills it."""

from contextlib import suppress

import psutil
import pytest

from shared.domain.job import MAX_CRASHES
from shared.domain.status import JobStatus
from tests.chaos import points
from tests.chaos.rig import LEASE_SECONDS, PATIENCE_SECONDS
from tests.chaos.worker_root import POISON
from tests.stack import wait_for

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize(
    ("point", "crashes"),
    [
        ("before claim", 0),
        ("claimed", 1),
        ("loading", 1),
        ("denoising", 1),
        ("decoding", 1),
        ("before file", 1),
        ("half file", 1),
        ("file written", 1),
        ("before commit", 1),
        ("committed", 0),
    ],
)
def test_a_child_that_is_killed_anywhere_costs_at_most_one_attempt(rig, point, crashes):
    # Given a worker that will die at one moment of a job
    rig.points.arm(point)
    jobs = [rig.job(job_id) for job_id in rig.submit(4)]
    # When it has died there, and a new child has come
    rig.wait_until_struck(point)
    verdict = rig.settle()
    # Then all jobs are done, those that it held (one that ran, one that was being saved) as their next attempt
    assert verdict.is_clean
    jobs = [rig.job(job.id) for job in jobs]
    assert all(job.attempt == 1 + job.crashes <= 2 for job in jobs)
    assert crashes <= sum(job.crashes for job in jobs) <= crashes + 1


def test_parent_and_child_killed_at_once(rig):
    # Given a running job
    with rig.job_kept_at("denoising") as job_id:
        rig.submit(3)
        # When the whole worker is killed and a supervisor starts it again
        child = rig.child()
        rig.worker.kill()
        psutil.wait_procs([child], timeout=PATIENCE_SECONDS)
    rig.worker.start()
    # Then the job is run again
    assert rig.settle().is_clean
    assert rig.job(job_id).attempts[0].outcome == "rescue"


def test_a_killed_parent_takes_its_child_with_it(rig):
    child = rig.child()
    rig.worker.kill()
    gone, alive = psutil.wait_procs([child], timeout=PATIENCE_SECONDS)
    assert (len(gone), alive) == (1, [])


def test_a_frozen_worker_is_given_up_and_publishes_nothing_afterwards(rig):
    # Given a worker that freezes in the middle of a job
    rig.points.arm("denoising", points.FREEZE)
    job_id = rig.submit(1, num_inference_steps=4)[0]
    rig.wait_until_struck("denoising")
    child = rig.child()
    # When its lease runs out
    wait_for(lambda: rig.job(job_id).crashes == 1, "the job is taken back", LEASE_SECONDS + PATIENCE_SECONDS)
    # And it goes on, unless somebody has killed it by now
    with suppress(psutil.NoSuchProcess):
        child.resume()
    # Then the next attempt is the one that is published
    assert rig.settle().is_clean
    done = rig.job(job_id)
    assert (done.attempt, [image.path for image in done.images]) == (2, [f"{job_id}/2-0.png"])
    assert [path.name for path in (rig.data_dir / "media" / job_id).iterdir()] == ["2-0.png"]


def test_a_poison_job_is_put_away_and_the_good_ones_are_done(rig):
    # Given a job among twenty good ones that kills every worker
    good = rig.submit(10)
    poison = rig.submit(1, prompt=POISON, ends=("worker_crashed",))[0]
    good += rig.submit(10)
    # Then it is failed after its third victim, visibly, and every good one is done
    assert rig.settle().is_clean
    failed = rig.job(poison)
    assert (failed.status, failed.error.code, failed.crashes) == (JobStatus.FAILED, "worker_crashed", MAX_CRASHES)
    assert [attempt.outcome for attempt in failed.attempts] == ["rescue"] * MAX_CRASHES
    assert {rig.job(job_id).status for job_id in good} == {JobStatus.SUCCEEDED}


@pytest.mark.parametrize(
    ("action", "code", "attempts"),
    [
        (points.OUT_OF_MEMORY, "out_of_memory", 2),
        (points.NOT_A_NUMBER, "numeric_error", 1),
        (points.SURPRISE, "internal_error", 1),
    ],
)
def test_an_error_of_the_model_ends_at_most_its_job(rig, action, code, attempts):
    # Given a model that fails once
    rig.points.arm("denoising", action)
    ends = (JobStatus.SUCCEEDED,) if attempts > 1 else (code,)
    hit = rig.submit(1, ends=ends)[0]
    rig.submit(2)
    # Then a job is tried again if that may help, else it fails with the code, and the same worker goes on
    child = rig.child()
    assert rig.settle().is_clean
    job = rig.job(hit)
    assert (job.attempt, job.attempts[0].error.code) == (attempts, code)
    assert rig.child() == child


def test_a_second_worker_waits_until_the_first_is_gone(rig):
    # Given two workers by mistake
    second = rig.make_worker("second")
    second.start()
    try:
        wait_for(
            lambda: "another worker owns the GPU" in second.log.read_text(), "the second one waits", PATIENCE_SECONDS
        )
        # When jobs come, the first one does them
        owner = rig.job(rig.submit(3)[0])
        assert rig.settle().is_clean
        # And when it dies in the middle of one, the second takes over
        with rig.job_kept_at("denoising") as job_id:
            rig.worker.end()
        assert rig.settle().is_clean
        first, last = rig.job(job_id).attempts
        assert first.outcome == "rescue"
        assert last.outcome == "finish"
        assert owner.id != job_id
    finally:
        second.end()
