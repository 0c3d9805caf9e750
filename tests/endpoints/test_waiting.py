"""Callers who wait: for a finished job, for its picture, for the next change."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from shared.channel.progress import ProgressChannel
from shared.domain.job import Claim, Job, JobError
from shared.domain.status import Phase
from shared.schemas.jobs import ImageResponse, JobRead
from shared.schemas.server import ErrorBody
from tests.builders import new_job
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.factories import mask_bytes, png_bytes

PROMPT = "a small red circle"
PATIENCE_SECONDS = 10


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    """Threads for callers that wait while the test plays the worker."""
    with ThreadPoolExecutor() as pool:
        yield pool


def until(look: Callable[[], object]) -> None:
    """Return as soon as ``look`` sees something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if look():
            return
        time.sleep(0.005)
    raise AssertionError("waited in vain")


def take_next(server: Server) -> tuple[Job, Claim]:
    """Claim the job that some caller is about to submit."""
    until(server.count_jobs)
    return server.worker.start()


def waits(server: Server) -> bool:
    """Return whether a request waits for a job right now."""
    return bool(server.app.state.services.watcher._waiters)


def submit(server: Server, kind: str, query: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    fields = {"prompt": PROMPT}
    files = {"file": ("a.png", png_bytes())}
    if kind == "fill":
        files = {"image": ("a.png", png_bytes()), "mask": ("m.png", mask_bytes())}
    body = {"json": fields} if kind == "generate" else {"data": fields, "files": files}
    return server.client.post(f"/api/{kind}?{query}", headers=headers, **body)


@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_a_job_that_finishes_within_the_wait_is_answered_with_200(server: Server, callers, kind: str):
    # given
    answer = callers.submit(submit, server, kind, f"wait={PATIENCE_SECONDS}")

    # when
    server.worker.finish(*take_next(server))

    # then
    response = answer.result()
    job = JobRead.model_validate_json(response.content)
    assert (response.status_code, job.status, job.kind) == (200, "succeeded", kind)
    assert response.headers["Location"] == job.urls.self
    assert "image_base64" not in response.json()


@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_the_plain_synchronous_answer_holds_the_picture(server: Server, callers, kind: str):
    # given
    answer = callers.submit(submit, server, kind, "response_format=b64_json")

    # when
    png = server.worker.finish(*take_next(server))

    # then
    response = answer.result()
    assert response.status_code == 200
    image = ImageResponse.model_validate_json(response.content)
    assert base64.b64decode(image.image_base64, validate=True) == png
    assert JobRead.model_validate_json(response.content).status == "succeeded"


@pytest.mark.parametrize("query", ["wait=0.1", "wait=0.1&response_format=b64_json", "wait=0&response_format=b64_json"])
def test_a_job_that_is_not_done_in_time_is_answered_with_202(server: Server, query: str):
    # when
    response = submit(server, "generate", query)

    # then
    assert response.status_code == 202
    assert JobRead.model_validate_json(response.content).status == "queued"
    assert "image_base64" not in response.json()


@pytest.mark.parametrize("prefer", ["wait=10", "respond-async, wait=10", "WAIT=10", "wait = 10", 'wait="10"'])
def test_the_wait_can_be_a_preference_in_the_header(server: Server, callers, prefer: str):
    # given
    answer = callers.submit(submit, server, "generate", "", {"Prefer": prefer})

    # when
    server.worker.finish(*take_next(server))

    # then
    assert answer.result().status_code == 200


@pytest.mark.parametrize("prefer", ["respond-async", "return=minimal", "wait=soon", "wait", "long-wait=10", ""])
def test_a_preference_that_says_no_time_is_passed_over(server: Server, prefer: str):
    assert submit(server, "generate", "", {"Prefer": prefer}).status_code == 202


@pytest.mark.parametrize(
    "prefer", ["wait=100000", "respond-async, wait=1", "wait=0.5, wait=100000", f"wait={'9' * 400}"]
)
def test_a_preference_above_the_limit_is_cut_to_it(start_server: ServerFactory, prefer: str):
    # given
    server = start_server(max_wait_seconds=0.2)

    # when
    response = submit(server, "generate", "", {"Prefer": prefer})

    # then
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "wait=0.2"


def test_a_preference_that_is_met_is_named_and_the_first_line_counts(server: Server, callers):
    # given
    headers = [("Prefer", "respond-async"), ("Prefer", f"wait={PATIENCE_SECONDS}"), ("Prefer", "wait=0")]
    answer = callers.submit(server.client.post, "/api/generate", json={"prompt": PROMPT}, headers=headers)

    # when
    server.worker.finish(*take_next(server))

    # then
    assert answer.result().status_code == 200
    assert answer.result().headers["Preference-Applied"] == f"wait={PATIENCE_SECONDS}"


def test_a_wait_in_the_query_above_the_limit_stays_refused(server: Server):
    # when
    response = submit(server, "generate", "wait=601", {"Prefer": "wait=1"})

    # then
    assert response.status_code == 422
    error = ErrorBody.model_validate_json(response.content).error
    assert (error.details["field"], error.details["limit"]) == ("wait", 600)
    assert "Preference-Applied" not in submit(server, "generate", "wait=0", {"Prefer": "wait=1"}).headers


def test_the_query_goes_before_the_header(server: Server):
    assert submit(server, "generate", "wait=0", {"Prefer": "wait=60"}).status_code == 202


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("out_of_memory", 507),
        ("model_unavailable", 503),
        ("numeric_error", 500),
        ("worker_crashed", 500),
        ("input_missing", 500),
        ("a_code_of_a_later_version", 500),
    ],
)
@pytest.mark.parametrize("query", [f"wait={PATIENCE_SECONDS}", "response_format=b64_json"])
def test_a_job_that_fails_within_the_wait_is_answered_by_its_error(
    server: Server, callers, query: str, code: str, status: int
):
    # given
    answer = callers.submit(submit, server, "generate", query)
    _, claim = take_next(server)

    # when
    server.worker.fail(claim, JobError(code=code, message="It went wrong."))

    # then
    response = answer.result()
    assert response.status_code == status
    error = ErrorBody.model_validate_json(response.content).error
    assert (error.code, error.message) == (code, "It went wrong.")
    job = JobRead.model_validate(error.details["job"])
    assert (job.id, job.status) == (claim.job_id, "failed")


def test_a_job_that_is_cancelled_within_the_wait_is_answered_with_409(server: Server, callers):
    # given
    answer = callers.submit(submit, server, "generate", f"wait={PATIENCE_SECONDS}")
    until(lambda: waits(server))
    [job] = server.client.get("/api/jobs").json()["jobs"]

    # when
    server.client.post(job["urls"]["cancel"])

    # then
    response = answer.result()
    assert response.status_code == 409
    error = ErrorBody.model_validate_json(response.content).error
    assert (error.code, error.details["job"]["id"]) == ("job_cancelled", job["id"])


def poll(server: Server, job_id: str, **query: Any) -> httpx2.Response:
    return server.client.get(f"/api/jobs/{job_id}", params=query)


def test_a_long_poll_answers_when_the_job_ends(server: Server, callers):
    # given
    job_id = server.jobs.add(new_job(), 10).id
    answer = callers.submit(poll, server, job_id, wait=PATIENCE_SECONDS)
    until(lambda: waits(server))

    # when
    server.worker.run_one()

    # then
    assert answer.result().json()["status"] == "succeeded"


def test_a_word_of_the_worker_wakes_a_long_poll_before_the_next_look(
    server: Server, callers, broker_url: str, monkeypatch: pytest.MonkeyPatch
):
    # given an API that by itself looks once in an hour
    monkeypatch.setattr("api.services.waiting.TICK_SECONDS", 3600)
    job_id = server.jobs.add(new_job(), 10).id
    answer = callers.submit(poll, server, job_id, wait=PATIENCE_SECONDS)
    until(lambda: waits(server))
    server.worker.run_one()

    # when
    channel = ProgressChannel(broker_url)
    try:
        until(lambda: channel.clear(job_id) or answer.done())
    finally:
        channel.close()

    # then
    assert answer.result().json()["status"] == "succeeded"


def test_a_long_poll_answers_at_the_next_change_after_the_one_it_knows(server: Server, callers):
    # given
    job_id = server.jobs.add(new_job(), 10).id
    _, claim = server.worker.start()
    seen = poll(server, job_id).json()["status_seq"]
    answer: Future[httpx2.Response] = callers.submit(poll, server, job_id, wait=PATIENCE_SECONDS, since=seen)
    until(lambda: waits(server))
    assert not answer.done()

    # when
    server.worker.enter(claim, Phase.DENOISING)

    # then
    job = answer.result().json()
    assert (job["phase"], job["status_seq"]) == ("denoising", seen + 1)


def test_a_long_poll_that_knows_less_than_the_newest_is_answered_at_once(server: Server):
    # given
    job_id = server.jobs.add(new_job(), 10).id
    server.worker.start()

    # when
    started = time.monotonic()
    response = poll(server, job_id, wait=PATIENCE_SECONDS, since=1)

    # then
    assert time.monotonic() - started < PATIENCE_SECONDS / 2
    assert response.json()["status_seq"] == 2


def test_a_long_poll_of_a_finished_job_is_answered_at_once(server: Server):
    # given
    job_id = server.jobs.add(new_job(), 10).id
    server.worker.run_one()

    # when
    started = time.monotonic()
    response = poll(server, job_id, wait=PATIENCE_SECONDS, since=1000)

    # then
    assert time.monotonic() - started < PATIENCE_SECONDS / 2
    assert response.json()["status"] == "succeeded"


def test_a_long_poll_in_which_nothing_happens_ends_with_the_job_as_it_is(server: Server):
    # given
    job = server.jobs.add(new_job(), 10)

    # when
    response = poll(server, job.id, wait=0.2)

    # then
    assert (response.status_code, response.json()["status_seq"]) == (200, job.status_seq)
    assert not waits(server)


WAITERS = 300
"""Far more than the thread pool has threads (40) and the database has connections (15)."""


def test_those_who_wait_hold_neither_thread_nor_connection(server: Server):
    # given
    job_id = server.jobs.add(new_job(), 10).id
    services = server.app.state.services

    async def scene() -> tuple[list[float], int, list[httpx2.Response]]:
        transport = httpx2.ASGITransport(server.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            waiting = [
                asyncio.create_task(client.get(f"/api/jobs/{job_id}", params={"wait": 60})) for _ in range(WAITERS)
            ]
            while len(services.watcher._waiters) < WAITERS:
                await asyncio.sleep(0.01)
            connections = services.health._database.engine.pool.checkedout()

            # when others come, to routes that need no thread, and to routes that need one and the database
            seconds = []
            for path in ["/health", "/health/ready", "/api/jobs", f"/api/jobs/{job_id}"] * 5:
                started = time.monotonic()
                response = await client.get(path)
                seconds.append(time.monotonic() - started)
                assert response.status_code == 200
            await asyncio.to_thread(server.worker.run_one)
            return seconds, connections, await asyncio.gather(*waiting)

    # when
    seconds, connections, answers = server.client.portal.call(scene)

    # then
    assert max(seconds) < 5  # who needs what the waiters hold would wait for 60
    assert connections <= 1  # the one query for all who wait
    assert {answer.json()["status"] for answer in answers} == {"succeeded"}
    assert not waits(server)
