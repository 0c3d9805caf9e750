"""Remote jobs as the queue sees them: the real runner, database and broker, and a Space on loopback."""

import io
import threading
from datetime import timedelta

import pytest
from PIL import Image

from api.services.queries import JobQueries
from shared.catalog import CATALOG
from shared.clock import utc_now
from shared.domain.status import JobStatus
from tests.builders import new_job, params
from tests.contract.scripted import run_to_its_end
from tests.space.painting import alike, paint
from worker.generators.flux_client import FluxClientAdapter, FluxImageGenerator


@pytest.fixture
def remote_runner(make_runner, spaces):
    adapter = FluxClientAdapter(FluxImageGenerator(f"{spaces.url}/schnell"), CATALOG["schnell"])
    return make_runner(None, generator=adapter)


@pytest.fixture
def submit(jobs):
    return lambda prompt, **changes: jobs.add(new_job(model="schnell", params=params(prompt=prompt, **changes)), 10).id


@pytest.fixture
def start(remote_runner, spaces):
    """Runs the next job beside the test."""
    threads = []

    def run():
        threads.append(threading.Thread(target=run_to_its_end, args=[remote_runner]))
        threads[-1].start()
        return threads[-1]

    yield run
    spaces.advance(100)
    for thread in threads:
        thread.join(60)


def wait_until(seen):
    """Look until ``seen()``; the test's own time limit ends a vain wait."""
    pause = threading.Event()
    while not (value := seen()):
        pause.wait(0.02)
    return value


def test_its_pictures_are_published_like_any_others(remote_runner, submit, jobs, storage):
    job_id = submit("a fox", num_images=2, seed=40)
    run_to_its_end(remote_runner)
    done = jobs.get(job_id)
    assert (done.status, [image.seed for image in done.images]) == (JobStatus.SUCCEEDED, [40, 41])
    stored = Image.open(io.BytesIO(storage.read(done.images[1].path)))
    assert alike(stored, paint("a fox", 41, 256, 256, num_inference_steps=4))


def test_a_used_up_quota_puts_the_job_back_until_it_is_over(remote_runner, submit, jobs):
    job_id = submit("error:You have exceeded your GPU quota (60s requested vs. 0s left). Retry in 2:00:00")
    line = run_to_its_end(remote_runner)
    waiting = jobs.get(job_id)
    assert "quota_exceeded, tried again in 72" in line
    assert waiting.status is JobStatus.QUEUED
    assert timedelta(minutes=119) < waiting.schedule.not_before - utc_now() < timedelta(minutes=121)
    # Waiting on request is no failed try
    assert (waiting.errors, waiting.attempts[0].outcome, waiting.attempts[0].error.code) == (
        0,
        "retry",
        "quota_exceeded",
    )


def test_the_place_in_the_spaces_queue_is_shown(start, submit, jobs, channel, storage, spaces):
    # Given a Space that works for somebody else
    somebody = FluxImageGenerator(f"{spaces.url}/schnell")
    elsewhere = threading.Thread(target=somebody.generate_image, args=["wait: for the test"])
    elsewhere.start()
    wait_until(spaces.calls)
    # When a job waits there
    job_id = submit("a fox")
    start()
    queries = JobQueries(jobs, channel, storage)

    def waits_there():
        shown = queries.present(jobs.get(job_id))
        return shown.status is JobStatus.RUNNING and shown.queue_position is not None and shown

    # Then its place there is its place, until it is made
    shown = wait_until(waits_there)
    assert (shown.phase, shown.queue_position) == ("loading", 0)
    spaces.advance()
    elsewhere.join(60)
    somebody.close()
    wait_until(lambda: jobs.get(job_id).status is JobStatus.SUCCEEDED)


def test_a_cancel_reaches_the_running_job_without_waiting_for_the_space(start, submit, jobs, channel, spaces):
    job_id = submit("wait: for ever")
    thread = start()
    wait_until(spaces.calls)
    jobs.request_cancel(job_id)
    channel.hint_cancel(job_id)
    thread.join(60)
    assert jobs.get(job_id).status is JobStatus.CANCELLED
