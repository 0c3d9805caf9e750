"""Ids, queries, changes and methods that make no sense are a clear 4xx; nothing comes of them."""

from __future__ import annotations

import pytest

from shared.schemas.server import ErrorBody
from tests.endpoints.bad_requests import JSON, PROMPT, refused
from tests.endpoints.server import Server


@pytest.mark.parametrize(
    "name",
    [
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "img_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "nothing",
        "..",
        "%2e%2e",
        "../../flux-image.db",
        "..%2f..%2fflux-image.db",
        "%2e%2e%2f%2e%2e%2fflux-image.db",
        "%2e%2e/%2e%2e/flux-image.db",
        "..%5c..%5cflux-image.db",
        "..%252f..%252fflux-image.db",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "....//....//flux-image.db",
        "%00",
        "x%00.png",
        "%ff%fe",
        "%ed%a0%80",
        "x" * 4000,
        "'%20OR%201=1--",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/jobs/{}"),
        ("POST", "/api/jobs/{}/cancel"),
        ("POST", "/api/jobs/{}/hold"),
        ("POST", "/api/jobs/{}/front"),
        ("GET", "/api/images/{}"),
    ],
)
def test_an_id_that_is_unknown_or_climbs_directories_is_404(
    untouched_server: Server, method: str, path: str, name: str
):
    # when
    status, _, body = untouched_server.call_as_written(method, path.format(name))

    # then
    assert status == 404
    assert ErrorBody.model_validate_json(body).error.code == "not_found"
    untouched_server.assert_nothing_left()


@pytest.mark.parametrize(
    ("send", "status", "field"),
    [
        ({"json": {"priority": 101}}, 422, "priority"),
        ({"json": {"priority": "1"}}, 422, "priority"),
        ({"json": {"priority": None}}, 422, "priority"),
        ({"json": {"job_class": "urgent"}}, 422, "job_class"),
        ({"json": {"deadline": "9999-12-31T23:59:59-12:00"}}, 422, "deadline"),
        ({"json": {"not_before": "soon"}}, 422, "not_before"),
        ({"json": {"status": "succeeded"}}, 422, "status"),
        ({"json": ["priority"]}, 422, "body"),
        ({"content": b"{", "headers": {"Content-Type": JSON}}, 422, "body"),
        ({"content": b"priority=1", "headers": {"Content-Type": "text/plain"}}, 415, "Content-Type"),
        ({"data": {"priority": "1"}}, 415, "Content-Type"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(server: Server, send, status: int, field: str):
    # given
    job = server.client.post("/api/generate", json={"prompt": PROMPT, "priority": 3}).json()

    # when
    response = server.client.patch(job["urls"]["self"], **send)

    # then
    assert response.status_code == status
    assert refused(response).details["field"] == field
    assert server.client.get(job["urls"]["self"]).json() == job


@pytest.mark.parametrize(
    ("query", "field", "limit"),
    [
        ("status=done", "status", None),
        ("kind=paint", "kind", None),
        ("limit=0", "limit", 1),
        ("limit=201", "limit", 200),
        ("limit=many", "limit", None),
        ("cursor=" + "x" * 4000, "cursor", None),
        ("cursor=yesterday", "cursor", None),
        ("cursor=job_%00", "cursor", None),
    ],
)
def test_a_list_that_cannot_be_made_is_refused(untouched_server: Server, query: str, field: str, limit: int | None):
    # when
    response = untouched_server.client.get(f"/api/jobs?{query}")

    # then
    assert response.status_code == 422
    details = refused(response).details
    assert details["field"].startswith(field)
    assert details.get("limit") == limit


@pytest.mark.parametrize("query", ["wait=601", "wait=-1", "wait=nan", "wait=inf", "wait=x", "since=-1", "since=1.5"])
def test_a_long_poll_that_cannot_be_done_is_refused(server: Server, query: str):
    # given
    job = server.client.post("/api/generate", json={"prompt": PROMPT}).json()

    # when
    response = server.client.get(f"{job['urls']['self']}?{query}")

    # then
    assert response.status_code == 422
    assert refused(response).details["field"] == query.partition("=")[0]


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/generate"), ("DELETE", "/api/jobs"), ("PUT", "/health")])
def test_a_method_that_a_path_has_not_is_405_and_says_which_it_has(untouched_server: Server, method: str, path: str):
    # when
    response = untouched_server.client.request(method, path)

    # then
    assert response.status_code == 405
    assert refused(response).code == "method_not_allowed"
    assert response.headers["Allow"]
