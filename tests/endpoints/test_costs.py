"""B12 as counts: what a request costs the database, whatever a commit costs on the disk of the day."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, event

from tests.endpoints.server import Server


@pytest.fixture
def synced() -> Iterator[list[str]]:
    """A list that grows by one with each synced commit of any connection."""
    commits: list[str] = []

    def count(connection: Connection) -> None:
        if connection.get_execution_options().get("write") == "FULL":
            commits.append("FULL")

    event.listen(Engine, "commit", count)
    yield commits
    event.remove(Engine, "commit", count)


def test_a_submit_is_one_synced_commit_and_looking_is_none(server: Server, synced: list[str]):
    # when a job is submitted
    body = server.client.post("/api/generate", json={"prompt": "a red circle"}).json()

    # then that was one commit
    assert len(synced) == 1

    # and reading it, the list, the queue and the models is none
    for address in (body["urls"]["self"], body["urls"]["preview"], "/api/jobs", "/api/queue", "/api/models", "/health"):
        assert server.client.get(address).status_code in (200, 204)
    assert len(synced) == 1


def test_a_submit_that_is_sent_again_and_a_refused_one_commit_nothing(server: Server, synced: list[str]):
    # given
    again = {"Idempotency-Key": "one"}
    server.client.post("/api/generate", json={"prompt": "a red circle"}, headers=again)

    # when
    repeated = server.client.post("/api/generate", json={"prompt": "a red circle"}, headers=again)
    refused = server.client.post("/api/generate", json={"prompt": ""})

    # then
    assert (repeated.status_code, refused.status_code) == (202, 422)
    assert len(synced) == 1
    assert server.count_jobs() == 1
