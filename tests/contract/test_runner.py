"""The runner with a real database, storage and broker, and a generator that does what the test says."""

import io
import threading
from datetime import timedelta

from PIL import Image

from shared.channel.progress import ProgressChannel
from shared.clock import utc_now
from shared.db.claims import ClaimRepository
from shared.domain.acceleration import MODULATION_TABLE, TILED_DECODE
from shared.domain.errors import NumericError, OutOfMemory
from shared.domain.job import JobInput, Lane
from shared.domain.params import InputRole
from shared.domain.status import JobStatus, Phase
from tests.builders import new_job, params
from tests.contract.scripted import paint, run_to_its_end
from worker.shutdown import Shutdown


def test_an_empty_queue_is_said_so(make_runner):
    assert make_runner(paint).run_next() == "nothing to do"


def test_a_success_publishes_every_picture_with_its_seed(make_runner, jobs, storage):
    job = jobs.add(new_job(params=params(num_images=2, seed=40)), 10)
    line = run_to_its_end(make_runner(lambda context: paint(context, 2)))
    done = jobs.get(job.id)
    assert line == f"{job.id} generate demo: saving"
    assert done.status is JobStatus.SUCCEEDED
    assert [(image.index, image.seed, image.path) for image in done.images] == [
        (0, 40, f"{job.id}/1-0.png"),
        (1, 41, f"{job.id}/1-1.png"),
    ]
    assert Image.open(io.BytesIO(storage.read(done.images[0].path))).size == (8, 8)


def test_accelerations_are_named_in_the_result_once_each(make_runner, jobs):
    def accelerated(context):
        for used in (MODULATION_TABLE, TILED_DECODE, MODULATION_TABLE):
            context.on_acceleration(used)
        paint(context)

    job = jobs.add(new_job(), 10)
    run_to_its_end(make_runner(accelerated))
    assert jobs.get(job.id).accelerations == (MODULATION_TABLE, TILED_DECODE)


def test_a_stated_failure_keeps_its_code_and_no_file(make_runner, jobs, tmp_path):
    def fail(context):
        paint(context)
        raise NumericError("not finite")

    job = jobs.add(new_job(), 10)
    make_runner(fail).run_next()
    failed = jobs.get(job.id)
    assert (failed.status, failed.error.code, failed.error.message) == (
        JobStatus.FAILED, "numeric_error", "not finite",
    )  # fmt: skip
    assert list((tmp_path / "media").iterdir()) == []


def test_an_error_that_may_go_away_is_tried_again_until_the_budget_is_spent(make_runner, jobs, database):
    def fail(context):
        paint(context)
        raise OutOfMemory("the card is full")

    later = utc_now()
    job = jobs.add(new_job(), 10)
    for attempt in (1, 2, 3):
        now = later + timedelta(hours=attempt)
        line = make_runner(fail, claims=ClaimRepository(database, lambda now=now: now)).run_next()
        assert ("tried again" in line) == (attempt < 3)
    failed = jobs.get(job.id)
    assert (failed.status, failed.error.code, failed.error.retryable) == (JobStatus.FAILED, "out_of_memory", True)
    assert [item.outcome for item in failed.attempts] == ["retry", "retry", "fail"]


def test_a_full_disk_is_tried_again(make_runner, jobs, storage, tmp_path):
    # Given a media directory that cannot be written
    job = jobs.add(new_job(), 10)
    (tmp_path / "media" / job.id).write_text("a file where the folder should be")
    run_to_its_end(make_runner(paint))
    again = jobs.get(job.id)
    assert again.status is JobStatus.QUEUED
    assert [(item.outcome, item.error.code) for item in again.attempts] == [("retry", "storage_failed")]


def test_a_surprise_ends_the_job_and_not_the_worker(make_runner, jobs):
    job = jobs.add(new_job(), 10)
    runner = make_runner(lambda context: 1 / 0)
    assert runner.run_next().endswith("failed (internal_error)")
    assert jobs.get(job.id).error.message == "ZeroDivisionError: division by zero"
    assert runner.run_next() == "nothing to do"


def wait_until_stopped(context):
    """Behave like a long denoising loop: check at every step."""
    step, pause = 0, threading.Event()
    while True:
        step += 1
        context.on_step(step, 1000)
        pause.wait(0.005)


def test_a_cancel_hint_stops_the_run_at_its_next_step(make_runner, jobs, channel):
    job = jobs.add(new_job(), 10)

    def script(context):
        context.on_step(1, 4)
        jobs.request_cancel(job.id)
        channel.hint_cancel(job.id)
        context.on_step(2, 4)
        raise AssertionError("the step after the hint was reached")

    make_runner(script).run_next()
    assert jobs.get(job.id).status is JobStatus.CANCELLED


def test_a_cancel_is_heard_without_redis(make_runner, jobs):
    # Given a broker that is away
    job = jobs.add(new_job(), 10)
    nowhere = ProgressChannel("redis://127.0.0.1:1")

    def script(context):
        jobs.request_cancel(job.id)
        wait_until_stopped(context)

    make_runner(script, channel=nowhere).run_next()
    assert jobs.get(job.id).status is JobStatus.CANCELLED


def test_a_cancel_between_heartbeats_is_heard_by_the_lease(make_runner, jobs):
    job = jobs.add(new_job(), 10)

    def script(context):
        jobs.request_cancel(job.id)  # no hint is sent
        wait_until_stopped(context)

    make_runner(script).run_next()
    assert jobs.get(job.id).status is JobStatus.CANCELLED


def test_a_shutdown_hands_the_job_back(make_runner, jobs):
    job = jobs.add(new_job(), 10)
    shutdown = Shutdown()

    def script(context):
        paint(context)
        shutdown.ask()
        wait_until_stopped(context)

    line = make_runner(script, shutdown=shutdown).run_next()
    back = jobs.get(job.id)
    assert line.endswith("released")
    assert (back.status, back.attempt, back.crashes, back.images) == (JobStatus.QUEUED, 1, 0, ())


def test_within_the_grace_time_a_job_is_finished_but_none_is_started(make_runner, jobs):
    first, second = jobs.add(new_job(), 10), jobs.add(new_job(), 10)
    shutdown = Shutdown(grace_seconds=600)

    def script(context):
        shutdown.ask()
        context.on_step(1, 4)
        paint(context)

    runner = make_runner(script, shutdown=shutdown)
    runner.run_next()
    assert run_to_its_end(runner) == "shutting down"
    assert (jobs.get(first.id).status, jobs.get(second.id).status) == (JobStatus.SUCCEEDED, JobStatus.QUEUED)


def test_a_lost_claim_publishes_nothing_and_deletes_its_files(make_runner, jobs, claims, rescues, tmp_path):
    job = jobs.add(new_job(), 10)

    def script(context):
        paint(context)
        rescues.rescue_others(Lane.GPU, "w2")
        claims.claim(Lane.GPU, "w2", timedelta(seconds=30))

    run_to_its_end(make_runner(script))
    other = jobs.get(job.id)
    assert (other.status, other.owner, other.attempt) == (JobStatus.RUNNING, "w2", 2)
    assert list((tmp_path / "media").iterdir()) == []


def test_a_missing_input_fails_with_its_name(make_runner, jobs, storage):
    gone = JobInput(role=InputRole.IMAGE, path="x/input.png", width=8, height=8, size_bytes=1, sha256="0" * 64)
    job = jobs.add(new_job(params=params(kind="edit"), model="demo-kontext", inputs=(gone,)), 10)
    make_runner(paint).run_next()
    assert jobs.get(job.id).error.code == "input_missing"


def test_progress_is_seen_while_the_job_runs(make_runner, jobs, channel):
    job = jobs.add(new_job(params=params(num_images=2)), 10)
    seen = []

    def script(context):
        context.on_phase(Phase.DENOISING)
        context.on_step(3, 4)
        seen.append(channel.read_many([job.id])[job.id])
        seen.append(jobs.get(job.id).phase)
        paint(context, 2)

    run_to_its_end(make_runner(script))
    assert (seen[0].step, seen[0].value, seen[0].phase, seen[1]) == (3, 3 / 8, Phase.DENOISING, Phase.DENOISING)
    assert channel.read_many([job.id]) == {}
