from __future__ import annotations

import pytest

from shared.catalog import DEFAULT_DEMO_MODELS
from shared.domain.job import JobError, Lane, Progress
from shared.domain.params import JobKind
from shared.domain.status import JobStatus, Phase
from shared.schemas.jobs import JobPageRead, JobRead
from tests.builders import new_job, params
from tests.endpoints.server import LEASE, Server

LIMIT = 10_000


def add(server: Server, kind: JobKind = JobKind.GENERATE, **changes: object) -> str:
    job = new_job(model=DEFAULT_DEMO_MODELS[kind], params=params(kind=kind, **changes))
    return server.jobs.add(job, LIMIT).id


def read(server: Server, job_id: str) -> JobRead:
    response = server.client.get(f"/api/jobs/{job_id}")
    assert response.status_code == 200
    return JobRead.model_validate_json(response.content)


def test_a_job_shows_each_step_of_its_life(server: Server):
    # given
    job_id = add(server, num_images=2)
    assert read(server, job_id).status == "queued"

    # when a worker takes it
    job, claim = server.worker.start()
    loading = read(server, job_id)
    server.worker.enter(claim, Phase.DENOISING)
    denoising = read(server, job_id)
    server.worker.finish(job, claim)
    done = read(server, job_id)

    # then
    assert (loading.status, loading.phase, loading.attempt) == ("running", "loading", 1)
    assert loading.started_at is not None
    assert loading.queue_position is None
    assert denoising.phase == "denoising"
    assert (done.status, done.phase, done.progress.value) == ("succeeded", None, 1.0)
    assert done.finished_at is not None
    assert (done.timings.load_seconds, done.timings.run_seconds) == (0.5, 1.5)
    assert done.timings.queue_wait_seconds is not None
    assert [(image.index, image.seed) for image in done.images] == [(0, 1), (1, 2)]
    sequence = [loading.status_seq, denoising.status_seq, done.status_seq]
    assert sequence == sorted(set(sequence))


def test_progress_of_a_running_job_comes_from_the_channel(server: Server):
    # given
    job_id = add(server, num_images=2)
    _, claim = server.worker.start()
    channel = server.app.state.services.queries._channel

    # when
    channel.report(
        job_id,
        Progress(attempt=claim.attempt, phase=Phase.DENOISING, step=2, total_steps=4, image_index=1, num_images=2),
    )

    # then
    job = read(server, job_id)
    assert job.phase == "denoising"
    assert job.progress.model_dump() == {"step": 2, "total_steps": 4, "value": 0.75, "image_index": 1}


def test_progress_of_an_earlier_attempt_is_not_shown(server: Server):
    # given
    job_id = add(server)
    _, claim = server.worker.start()
    channel = server.app.state.services.queries._channel
    channel.report(job_id, Progress(attempt=claim.attempt, phase=Phase.DENOISING, step=3, total_steps=4))

    # when
    server.worker.claims.release(claim)
    server.worker.start()

    # then
    assert (read(server, job_id).phase, read(server, job_id).progress.step) == ("loading", 0)


def test_a_failed_job_says_why(server: Server):
    # given
    job_id = add(server)
    _, claim = server.worker.start()

    # when
    server.worker.fail(claim, JobError(code="out_of_memory", message="The card is too small.", retryable=True))

    # then
    job = read(server, job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.model_dump() == {"code": "out_of_memory", "message": "The card is too small.", "retryable": True}


def test_the_queue_position_counts_the_jobs_ahead(server: Server):
    # given
    ids = [add(server) for _ in range(3)]
    assert [read(server, job_id).queue_position for job_id in ids] == [0, 1, 2]

    # when
    server.worker.start()

    # then
    assert [read(server, job_id).queue_position for job_id in ids] == [None, 0, 1]


def test_a_queued_job_is_cancelled_at_once(server: Server):
    # given
    job_id = add(server)

    # when
    response = server.client.post(f"/api/jobs/{job_id}/cancel")

    # then
    job = JobRead.model_validate_json(response.content)
    assert (response.status_code, job.status, job.cancel_requested) == (200, "cancelled", True)
    assert job.finished_at is not None
    assert server.worker.claims.claim(Lane.GPU, "wrk_other", LEASE) is None


def test_a_running_job_is_asked_to_stop_and_stops_when_its_worker_hears(server: Server):
    # given
    job_id = add(server)
    _, claim = server.worker.start()

    # when
    asked = server.client.post(f"/api/jobs/{job_id}/cancel").json()

    # then
    assert (asked["status"], asked["cancel_requested"]) == ("running", True)
    assert server.worker.claims.cancel_requested(claim)
    assert server.broker.exists(f"flux:cancel:{job_id}")
    server.worker.stop(claim)
    assert read(server, job_id).status == "cancelled"


@pytest.mark.parametrize("times", [1, 2])
def test_cancelling_a_finished_job_changes_nothing(server: Server, times: int):
    # given
    job_id = add(server)
    server.worker.run_one()
    before = read(server, job_id)

    # when
    answers = [server.client.post(f"/api/jobs/{job_id}/cancel") for _ in range(times)]

    # then
    assert {answer.status_code for answer in answers} == {200}
    assert read(server, job_id) == before
    assert before.status == "succeeded"


def test_cancelling_twice_is_as_good_as_once(server: Server):
    # given
    job_id = add(server)

    # when
    first, second = (server.client.post(f"/api/jobs/{job_id}/cancel").json() for _ in range(2))

    # then
    assert first == second


def page(server: Server, **query: object) -> JobPageRead:
    response = server.client.get("/api/jobs", params=query)
    assert response.status_code == 200
    return JobPageRead.model_validate_json(response.content)


def test_the_list_is_empty_at_first(server: Server):
    assert page(server) == JobPageRead(jobs=[], next_cursor=None)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
def test_pages_hold_each_job_once_newest_first_even_while_new_ones_come(server: Server, limit: int):
    # given
    ids = sorted((add(server) for _ in range(7)), reverse=True)

    # when
    found, cursor = [], None
    while True:
        one = page(server, limit=limit, **({"cursor": cursor} if cursor else {}))
        found += [job.id for job in one.jobs]
        add(server)
        cursor = one.next_cursor
        if cursor is None:
            break

    # then
    assert found == ids


def test_the_list_is_filtered_by_status_and_kind(server: Server):
    # given
    running = add(server, JobKind.GENERATE)
    server.worker.start()
    edit, fill, generate = add(server, JobKind.EDIT), add(server, JobKind.FILL), add(server)

    # then
    assert {job.id for job in page(server, status="running").jobs} == {running}
    assert {job.id for job in page(server, status="queued", kind="edit").jobs} == {edit}
    assert {job.id for job in page(server, kind=["edit", "fill"]).jobs} == {edit, fill}
    assert {job.id for job in page(server, status=["queued", "running"], kind="generate").jobs} == {running, generate}
    assert page(server, status=JobStatus.FAILED).jobs == []
