"""GET /api/jobs/{id}/preview."""

from __future__ import annotations

from shared.channel.previews import PreviewChannel
from tests.builders import new_job
from tests.endpoints.server import Server

PICTURE = b"RIFF....WEBP"


def previews_of(server: Server) -> PreviewChannel:
    return PreviewChannel(server.settings.resolved_redis_url)


def test_a_running_job_s_preview_is_served_and_not_sent_twice(server: Server):
    # given
    job = server.jobs.add(new_job(), 10)
    server.worker.start()
    previews_of(server).put(job.id, 1, PICTURE)
    address = server.client.get(f"/api/jobs/{job.id}").json()["urls"]["preview"]

    # when
    first = server.client.get(address)
    again = server.client.get(address, headers={"If-None-Match": first.headers["ETag"]})
    previews_of(server).put(job.id, 1, PICTURE + b"!")
    later = server.client.get(address, headers={"If-None-Match": first.headers["ETag"]})

    # then
    assert (first.status_code, first.content, first.headers["Content-Type"]) == (200, PICTURE, "image/webp")
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert (later.status_code, later.content) == (200, PICTURE + b"!")


def test_where_there_is_no_preview_the_answer_is_empty(server: Server):
    # given a job that waits
    job = server.jobs.add(new_job(), 10)
    waiting = server.client.get(f"/api/jobs/{job.id}/preview")

    # when it runs, and only an attempt that is over had a preview
    server.worker.start()
    previews_of(server).put(job.id, 0, PICTURE)
    running = server.client.get(f"/api/jobs/{job.id}/preview")

    # then
    assert [(answer.status_code, answer.content) for answer in (waiting, running)] == [(204, b"")] * 2
    assert waiting.headers["Cache-Control"] == "no-store"


def test_a_job_that_has_ended_or_never_was_has_none(server: Server):
    # given
    job = server.jobs.add(new_job(), 10)
    server.worker.run_one()
    previews_of(server).put(job.id, 1, PICTURE)

    # when
    ended = server.client.get(f"/api/jobs/{job.id}/preview")
    unknown = server.client.get("/api/jobs/job_01K0A1B2C3D4E5F6G7H8J9KMNP/preview")

    # then
    assert [answer.status_code for answer in (ended, unknown)] == [404, 404]
    assert "has succeeded" in ended.json()["error"]["message"]
    assert server.client.get(f"/api/jobs/{job.id}").json()["urls"]["preview"] is None


def test_without_redis_there_is_no_preview_and_no_error(start_server):
    # given
    server = start_server(redis_url="redis://127.0.0.1:1")
    job = server.jobs.add(new_job(), 10)
    server.worker.start()

    # when
    answer = server.client.get(f"/api/jobs/{job.id}/preview")

    # then
    assert answer.status_code == 204
