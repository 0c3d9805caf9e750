"""Steering the queue and retrying submits over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from shared.clock import utc_now
from tests.factories import png_bytes
from tests.stack import wait_for

KEY = {"Idempotency-Key": "night-run-1"}


def generate(client, headers=None, **body):
    return client.post("/api/generate", json={"prompt": "a red circle", **body}, headers=headers or {})


class TestIdempotencyKey:
    def test_a_repeated_submit_is_the_same_job(self, server):
        first, second = generate(server.client, KEY), generate(server.client, KEY)
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json()["id"] == second.json()["id"]
        assert "Idempotency-Replayed" not in first.headers
        assert second.headers["Idempotency-Replayed"] == "true"
        assert server.count_jobs() == 1

    def test_the_same_key_with_another_body_is_refused(self, server):
        generate(server.client, KEY)
        other = generate(server.client, KEY, seed=1)
        assert other.status_code == 422
        assert other.json()["error"]["code"] == "idempotency_key_reuse"
        assert other.json()["error"]["details"]["field"] == "Idempotency-Key"

    def test_a_replayed_upload_leaves_no_second_file(self, server):
        def edit(size):
            files = {"file": ("a.png", png_bytes(*size))}
            return server.client.post("/api/edit", data={"prompt": "make it green"}, files=files, headers=KEY)

        first, second, other = edit((96, 64)), edit((96, 64)), edit((64, 96))
        assert first.json()["id"] == second.json()["id"]
        assert other.status_code == 422
        assert len(server.media_files()) == 1

    def test_a_replay_of_a_failed_job_shows_it_without_raising(self, server):
        job_id = generate(server.client, KEY).json()["id"]
        server.client.post(f"/api/jobs/{job_id}/cancel")
        replay = generate(server.client, KEY)
        assert (replay.status_code, replay.json()["status"]) == (202, "cancelled")

    def test_a_replay_is_answered_where_a_new_job_would_be_refused(self, server):
        # given an accepted job, and then no room for another
        first = generate(server.client, KEY)
        media = server.settings.media_dir
        media.rename(media.with_name("away"))

        # when
        replay, new = generate(server.client, KEY), generate(server.client)

        # then
        assert (replay.status_code, replay.json()["id"]) == (202, first.json()["id"])
        assert new.status_code == 503

    def test_a_replay_is_answered_while_the_queue_is_full(self, start_server):
        # given a queue that the first submit has filled
        client = start_server(max_queued_jobs=1).client
        first = generate(client, KEY)

        # when
        replay, new = generate(client, KEY), generate(client)

        # then
        assert (replay.status_code, replay.json()["id"]) == (202, first.json()["id"])
        assert new.status_code == 429

    def test_parallel_duplicates_are_one_job(self, server):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: generate(server.client, KEY), range(8)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert server.count_jobs() == 1

    @pytest.mark.parametrize("key", ["", "x" * 256])
    def test_a_key_has_a_length(self, client, key):
        assert generate(client, {"Idempotency-Key": key}).status_code == 422


class TestSchedule:
    def test_what_is_asked_for_is_in_the_job(self, client):
        later = (utc_now() + timedelta(hours=1)).isoformat()
        job = generate(client, job_class="background", priority=5, not_before=later, deadline=later).json()
        assert (job["job_class"], job["priority"]) == ("background", 5)
        assert job["not_before"] == job["deadline"]
        assert "priority" not in job["params"]

    def test_forms_take_it_too(self, client):
        data = {"prompt": "make it green", "job_class": "interactive", "priority": "-3"}
        job = client.post("/api/edit", data=data, files={"file": ("a.png", png_bytes())}).json()
        assert (job["job_class"], job["priority"]) == ("interactive", -3)

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"priority": 101}, "priority"),
            ({"job_class": "urgent"}, "job_class"),
            ({"not_before": "2026-11-21T10:00:00"}, "not_before"),
            ({"deadline": "tomorrow"}, "deadline"),
        ],
    )
    def test_what_makes_no_sense_is_refused_by_field(self, server, body, field):
        answer = generate(server.client, **body)
        assert answer.status_code == 422
        assert answer.json()["error"]["details"]["field"] == field
        server.assert_nothing_left()

    @pytest.mark.parametrize("kind", ["json", "form"])
    @pytest.mark.parametrize(
        ("not_before", "deadline", "says"),
        [(None, -1, "is past"), (None, -(10**8), "is past"), (2, 1, "is before not_before"), (-2, -1, "is past")],
    )
    def test_a_deadline_that_no_job_could_keep_is_refused(self, server, kind, not_before, deadline, says):
        # given
        seconds = {"not_before": not_before, "deadline": deadline}
        times = {
            name: (utc_now() + timedelta(hours=value)).isoformat() if abs(value) < 100 else "1970-01-01T00:00:00Z"
            for name, value in seconds.items()
            if value is not None
        }

        # when
        if kind == "json":
            answer = generate(server.client, **times)
        else:
            files = {"file": ("a.png", png_bytes())}
            answer = server.client.post("/api/edit", data={"prompt": "make it green", **times}, files=files)

        # then
        assert answer.status_code == 422
        assert answer.json()["error"]["details"]["field"] == "deadline"
        assert says in answer.json()["error"]["message"]
        server.assert_nothing_left()

    @pytest.mark.parametrize(
        ("before", "change", "says"),
        [
            ({}, {"deadline": -1}, "is past"),
            ({"not_before": 2}, {"deadline": 1}, "is before not_before"),
            ({"deadline": 1}, {"not_before": 2}, "is before not_before"),
        ],
    )
    def test_a_change_to_a_deadline_that_no_job_could_keep_is_refused(self, server, before, change, says):
        # given
        def at(hours):
            return {name: (utc_now() + timedelta(hours=value)).isoformat() for name, value in hours.items()}

        job = generate(server.client, **at(before)).json()

        # when
        answer = server.client.patch(job["urls"]["self"], json=at(change))

        # then
        assert answer.status_code == 422
        assert answer.json()["error"]["details"]["field"] == "deadline"
        assert says in answer.json()["error"]["message"]
        assert server.client.get(job["urls"]["self"]).json() == job

    def test_a_repeated_submit_is_the_same_job_also_after_its_deadline(self, server):
        # given
        deadline = utc_now() + timedelta(seconds=0.5)
        key = {"Idempotency-Key": "once"}
        first = generate(server.client, key, deadline=deadline.isoformat())
        wait_for(lambda: utc_now() > deadline, "the deadline has passed")

        # when
        again = generate(server.client, key, deadline=deadline.isoformat())

        # then
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.json()["id"] == first.json()["id"]


class TestQueue:
    def test_it_shows_what_runs_and_what_is_next(self, server):
        ids = [generate(server.client).json()["id"] for _ in range(3)]
        server.worker.start()
        queue = server.client.get("/api/queue").json()
        assert [job["id"] for job in queue["running"]] == ids[:1]
        assert [job["id"] for job in queue["next"]] == ids[1:]
        assert [job["queue_position"] for job in queue["next"]] == [0, 1]
        assert queue["counts"]["queued"] == 2
        assert queue["paused"] is False

    def test_pause_and_resume(self, server):
        job_id = generate(server.client).json()["id"]
        assert server.client.post("/api/queue/pause").json()["paused"] is True
        with pytest.raises(AssertionError, match="no job waits"):
            server.worker.start()
        assert server.client.post("/api/queue/resume").json()["paused"] is False
        assert server.worker.start()[0].id == job_id

    def test_hold_front_and_patch_change_the_order(self, server):
        first, second, third = (generate(server.client).json()["id"] for _ in range(3))
        client = server.client
        assert client.post(f"/api/jobs/{first}/hold").json()["held"] is True
        client.post(f"/api/jobs/{third}/front")
        client.patch(f"/api/jobs/{second}", json={"job_class": "interactive"})
        assert [server.worker.start()[0].id for _ in range(2)] == [second, third]
        assert client.post(f"/api/jobs/{first}/unhold").json()["held"] is False
        assert server.worker.start()[0].id == first

    def test_a_running_job_cannot_be_moved(self, server):
        job_id = generate(server.client).json()["id"]
        server.worker.start()
        answer = server.client.post(f"/api/jobs/{job_id}/front")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "job_conflict"
        assert server.client.post("/api/jobs/job_unknown/hold").status_code == 404

    def test_cancelling_what_waits(self, server):
        for _ in range(3):
            generate(server.client)
        server.worker.start()
        assert server.client.post("/api/queue/cancel").json() == {"cancelled": 2}
        assert server.client.get("/api/queue").json()["counts"] == {
            "queued": 0, "running": 1, "succeeded": 0, "failed": 0, "cancelled": 2,
        }  # fmt: skip

    def test_the_attempts_are_in_the_job(self, server):
        job_id = generate(server.client).json()["id"]
        server.worker.run_one()
        (attempt,) = server.client.get(f"/api/jobs/{job_id}").json()["attempts"]
        assert (attempt["attempt"], attempt["outcome"], attempt["error"]) == (1, "finish", None)
        assert attempt["ended_at"] >= attempt["started_at"]
