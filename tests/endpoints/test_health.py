from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared.channel.progress import ProgressChannel
from shared.db.workers import WorkerState
from shared.domain.job import Lane
from shared.domain.report import LoadingReport
from shared.schemas.server import ReadyRead
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server


def ready(server: Server) -> tuple[int, ReadyRead]:
    response = server.client.get("/health/ready")
    return response.status_code, ReadyRead.model_validate_json(response.content)


def test_health_is_ok_whatever_else_is_away(start_server: ServerFactory, tmp_path: Path):
    # given
    server = start_server(worker=False, redis_url=f"unix://{tmp_path}/nobody.sock")

    # when
    response = server.client.get("/health")

    # then
    assert response.status_code == 200
    assert response.json()["status"] == "ok"


@pytest.mark.parametrize("state", [WorkerState.WARMING, WorkerState.IDLE, WorkerState.BUSY])
def test_with_every_part_there_it_is_ready(server: Server, state: WorkerState):
    # given
    server.worker.beat(state)

    # when
    status, parts = ready(server)

    # then
    assert status == 200
    assert (parts.ready, parts.database, parts.broker, parts.worker) == (True, "ok", "ok", state)
    assert parts.worker_heartbeat_age_seconds is not None
    assert 0 <= parts.worker_heartbeat_age_seconds < 15


def test_a_worker_that_still_starts_is_not_ready(server: Server):
    # given
    server.worker.beat(WorkerState.STARTING)

    # then
    status, parts = ready(server)
    assert (status, parts.ready, parts.worker) == (503, False, "starting")


def test_a_worker_that_fails_its_self_test_is_not_ready_and_says_why(server: Server):
    # given
    worker = server.worker.workers.latest(Lane.GPU)
    assert worker is not None
    server.worker.workers.beat(worker.owner, WorkerState.UNHEALTHY, "storage: no space left on device")

    # then
    status, parts = ready(server)
    assert (status, parts.worker) == (503, "unhealthy: storage: no space left on device")


def test_a_model_that_is_being_read_is_shown_in_bytes(server: Server):
    # given
    half = LoadingReport(model="schnell", done_bytes=12_300_000_000, total_bytes=33_700_000_000, seconds_left=40.5)
    channel = ProgressChannel(server.settings.resolved_redis_url)
    channel.report_loading(half)

    # then
    assert ready(server)[1].loading == half

    # and when it is read, nothing is left of that
    channel.report_loading(half.model_copy(update={"done_bytes": half.total_bytes}))
    channel.close()
    assert ready(server)[1].loading is None


def test_an_engine_that_never_started_is_why_there_is_no_default_model(start_server: ServerFactory):
    # given a first worker that has not got its card
    server = start_server(worker=False)
    trouble = "RuntimeError: Cannot re-initialize CUDA"
    server.worker.workers.register("wrk_1", Lane.GPU, "host", 1, WorkerState.UNHEALTHY, trouble, heartbeat_seconds=5)

    # when
    refused = server.client.post("/api/generate", json={"prompt": "a small red circle"})
    accepted = server.client.post("/api/generate", json={"prompt": "a small red circle", "model": "demo"})

    # then
    assert refused.status_code == 503
    assert trouble in refused.json()["error"]["message"]
    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")


def test_without_any_worker_ever_it_is_not_ready(start_server: ServerFactory):
    # given
    server = start_server(worker=False)

    # then
    status, parts = ready(server)
    assert (status, parts.ready, parts.worker) == (503, False, "none has started yet")
    assert (parts.database, parts.broker, parts.worker_heartbeat_age_seconds) == ("ok", "ok", None)


@pytest.mark.parametrize(("ago", "status"), [(timedelta(seconds=10), 200), (timedelta(seconds=16), 503)])
def test_a_worker_counts_for_fifteen_seconds_after_its_last_heartbeat(server: Server, ago: timedelta, status: int):
    # given
    server.worker.beat(WorkerState.BUSY, ago)

    # then
    found, parts = ready(server)
    assert found == status
    assert parts.worker == ("busy" if status == 200 else "offline")
    assert parts.worker_heartbeat_age_seconds is not None
    assert parts.worker_heartbeat_age_seconds >= ago.total_seconds()


def test_a_worker_that_left_in_good_order_is_offline(server: Server):
    # given
    server.worker.leave()

    # then
    status, parts = ready(server)
    assert (status, parts.worker) == (503, "offline")


def test_a_broker_that_is_away_is_named(start_server: ServerFactory, tmp_path: Path):
    # given
    server = start_server(redis_url=f"unix://{tmp_path}/nobody.sock")

    # then
    status, parts = ready(server)
    assert (status, parts.ready, parts.database, parts.broker, parts.worker) == (503, False, "ok", "no answer", "idle")


def test_a_database_that_is_away_is_named_and_other_requests_get_503(server: Server):
    # given: the schema is gone, as on a disk that was swapped
    with server.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE workers RENAME TO gone")

    # when
    status, parts = ready(server)
    answer = server.client.get("/api/models")

    # then
    assert (status, parts.ready, parts.worker, parts.broker) == (503, False, "unknown", "ok")
    assert "workers" in parts.database
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "database_unavailable"
    assert answer.headers["Retry-After"]
    assert "SELECT" not in answer.text


def test_a_disk_with_little_room_takes_no_job_and_is_not_ready(start_server: ServerFactory):
    # given more bytes that should stay free than any disk has
    server = start_server(min_free_bytes=2**62)

    # when
    refused = server.client.post("/api/generate", json={"prompt": "a small red circle"})

    # then
    assert refused.status_code == 507
    assert refused.json()["error"]["code"] == "storage_full"
    assert "FLUX_MIN_FREE_BYTES" in refused.json()["error"]["message"]
    assert refused.json()["error"]["details"]["limit"] == 2**62
    assert server.count_jobs() == 0
    status, parts = ready(server)
    assert (status, parts.ready) == (503, False)
    assert "MiB are free for pictures" in parts.storage


def test_a_media_directory_that_is_gone_takes_no_job_and_is_not_ready(server: Server):
    # given
    media = server.app.state.services.settings.media_dir
    media.rename(media.with_name("away"))

    # when
    refused = server.client.post("/api/generate", json={"prompt": "a small red circle"})

    # then
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_failed")
    status, parts = ready(server)
    assert (status, parts.storage) == (503, "the media directory does not answer (No such file or directory)")
