"""HEAD answers wherever GET does, and every address says which methods it takes: for all routes of the application."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from shared.schemas.server import ErrorBody
from tests.endpoints.server import Server
from tests.endpoints.submitting import submit

CHANGING = {"date", "content-length"}


def routes(app: FastAPI) -> Iterator[tuple[str, set[str]]]:
    """All addresses of the application with their methods, also those that are in no document."""
    for route in iter_route_contexts(app.routes):
        assert route.path is not None
        yield route.path, set(route.methods or ())


def addresses(server: Server) -> dict[str, set[str]]:
    """Every address with ids of things that are there, and the methods of all its routes."""
    submit(server, "generate", num_images=2)
    server.worker.run_one()
    submit(server, "generate")
    server.worker.start()
    running, done = server.client.get("/api/jobs").json()["jobs"]
    values = {"image_id": done["images"][0]["id"], "name": "swagger-ui.css"}
    found: dict[str, set[str]] = {}
    for path, methods in routes(server.app):
        job = running if path.endswith("/preview") else done
        filled = re.sub(r"{(\w+)}", lambda match, job=job: {**values, "job_id": job["id"]}[match[1]], path)
        found.setdefault(filled, set()).update(methods)
    return found


def test_every_get_answers_head_with_the_same_headers_and_no_body(server: Server):
    gets = [path for path, methods in addresses(server).items() if "GET" in methods]
    assert len(gets) >= 14
    for path in gets:
        # when
        head = server.client.head(path, follow_redirects=False)
        get = server.client.get(path, follow_redirects=False)

        # then
        assert head.status_code == get.status_code < 400, path
        assert head.content == b"", path
        kept = {name: value for name, value in get.headers.items() if name not in CHANGING}
        assert {name: value for name, value in head.headers.items() if name not in CHANGING} == kept, path
        assert ("content-length" in head.headers) == ("content-length" in get.headers), path


@pytest.mark.parametrize("path", ["/nothing", "/api/jobs/nothing", "/api/jobs?limit=0"])
def test_head_is_refused_as_get_is(untouched_server: Server, path: str):
    # when
    head, get = untouched_server.client.head(path), untouched_server.client.get(path)

    # then
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


def test_head_of_an_unknown_host_has_no_body_either(untouched_server: Server):
    response = untouched_server.client.head("/health", headers={"Host": "evil.example"})
    assert (response.status_code, response.content) == (421, b"")


def test_every_address_says_all_methods_that_it_takes(server: Server):
    for path, methods in addresses(server).items():
        wanted = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())

        # when
        asked, wrong = server.client.options(path), server.client.request("LOCK", path)

        # then
        assert (asked.status_code, asked.content) == (204, b""), path
        assert wrong.status_code == 405, path
        error = ErrorBody.model_validate_json(wrong.content).error
        assert error.code == "method_not_allowed"
        assert set(error.details["limit"]) == wanted, path
        for answer in (asked, wrong):
            assert set(answer.headers["Allow"].split(", ")) == wanted, path


def test_an_address_with_two_routes_says_the_methods_of_both(untouched_server: Server):
    # given GET and PATCH of a job, which are routes of their own
    paths = [path for path, _ in routes(untouched_server.app) if path == "/api/jobs/{job_id}"]
    assert len(paths) == 2

    # when
    response = untouched_server.client.delete("/api/jobs/nothing")

    # then
    assert response.headers["Allow"] == "GET, PATCH, HEAD, OPTIONS"


def test_options_of_nothing_is_404(untouched_server: Server):
    assert untouched_server.client.options("/nothing").status_code == 404
