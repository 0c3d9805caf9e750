"""What holds for every route: the title, CORS, the documentation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from shared.schemas.jobs import ImageResponse, JobRead, JobWithImage
from shared.schemas.server import ErrorBody
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server

PAGES = ["http://localhost:5173", "http://127.0.0.1:5173"]
OTHERS = [
    "http://localhost:5174",
    "https://localhost:5173",
    "http://x.example",
    "http://localhost:5173.x.example",
    "null",
]


@pytest.fixture
def client(untouched_server: Server) -> TestClient:
    return untouched_server.client


@pytest.mark.parametrize("origin", PAGES)
@pytest.mark.parametrize("path", ["/health", "/api/jobs", "/api/jobs/nothing"])
def test_the_page_of_the_dev_server_may_read_every_answer(client: TestClient, origin: str, path: str):
    # when
    headers = client.get(path, headers={"Origin": origin}).headers

    # then
    assert headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in headers
    assert "Location" in headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("origin", PAGES)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_page_of_the_dev_server_may_submit(client: TestClient, origin: str, method: str):
    # when
    response = client.options(
        "/api/generate",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "content-type,prefer",
        },
    )

    # then
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert method in response.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("origin", OTHERS)
def test_no_other_page_may_read_an_answer(client: TestClient, origin: str):
    # when
    read = client.get("/health", headers={"Origin": origin})
    asked = client.options("/api/generate", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})

    # then
    assert "Access-Control-Allow-Origin" not in read.headers
    assert asked.status_code == 400
    assert "Access-Control-Allow-Origin" not in asked.headers


def test_a_bug_is_a_500_of_the_common_shape_without_its_traceback(start_server: ServerFactory):
    # given
    server = start_server()

    @server.app.get("/bug")
    def bug() -> None:
        raise RuntimeError("a secret of the server")

    # when: a client that does not get to see the server's exceptions, as none does
    response = TestClient(server.app, raise_server_exceptions=False).get("/bug")

    # then
    assert response.status_code == 500
    assert ErrorBody.model_validate_json(response.content).error.code == "internal_error"
    assert "secret" not in response.text


def test_every_kind_of_answer_can_be_read_by_the_page_of_the_dev_server(start_server: ServerFactory):
    # given
    server = start_server(max_upload_bytes=1000)

    @server.app.get("/bug")
    def bug() -> None:
        raise RuntimeError("a mistake")

    client = TestClient(server.app, raise_server_exceptions=False, follow_redirects=False)
    submitted = {"json": {"prompt": "x"}}

    # when
    answers = {
        (200, "GET"): ("/docs", {}),
        (202, "POST"): ("/api/generate", submitted),
        (204, "OPTIONS"): ("/api/jobs", {}),
        (307, "GET"): ("/", {}),
        (403, "POST"): (
            "/api/queue/pause",
            {"headers": {"Sec-Fetch-Site": "cross-site", "Origin": "http://x.example"}},
        ),
        (404, "GET"): ("/nothing", {}),
        (405, "DELETE"): ("/api/jobs", {}),
        (413, "POST"): ("/api/generate", {"content": b"x" * 1001}),
        (415, "POST"): ("/api/generate", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        (421, "GET"): ("/api/jobs", {"headers": {"Host": "x.example"}}),
        (422, "POST"): ("/api/generate", {"json": {}}),
        (500, "GET"): ("/bug", {}),
        (500, "HEAD"): ("/bug", {}),
    }
    for (status, method), (path, send) in answers.items():
        headers = {"Origin": PAGES[0], **send.get("headers", {})}
        response = client.request(method, path, **{**send, "headers": headers})

        # then
        assert response.status_code == status, path
        assert "Origin" in response.headers["Vary"].split(", "), path
        allowed = response.headers.get("Access-Control-Allow-Origin")
        assert allowed == (PAGES[0] if headers["Origin"] == PAGES[0] else None), path
        exposed = set(response.headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed >= {"Location", "Retry-After", "ETag", "Idempotency-Replayed", "Allow"}, path


@pytest.mark.parametrize("origin", [PAGES[0], None])
def test_an_answer_without_or_with_an_origin_is_kept_apart_in_caches(client: TestClient, origin: str | None):
    assert "Origin" in client.get("/health", headers={"Origin": origin} if origin else {}).headers["Vary"]


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    return response.json()


def operations(document: dict[str, Any]):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_application_is_called_as_its_owner_wants(document: dict[str, Any]):
    assert document["info"]["title"] == "FLUX Image API"


def test_the_routes_are_those_of_the_main_job(document: dict[str, Any]):
    assert {name for name, _ in operations(document)} >= {
        "POST /api/generate",
        "POST /api/edit",
        "POST /api/fill",
        "GET /api/jobs",
        "GET /api/jobs/{job_id}",
        "POST /api/jobs/{job_id}/cancel",
        "GET /api/images/{image_id}",
        "GET /api/models",
        "GET /health",
        "GET /health/ready",
    }


def test_every_route_has_a_summary_and_says_what_goes_wrong(document: dict[str, Any]):
    for name, operation in operations(document):
        errors = [status for status in operation["responses"] if status >= "400"]
        assert operation["summary"], name
        assert operation["description"], name
        assert errors or name == "GET /health", name


def test_every_error_is_documented_with_its_model_and_an_example(document: dict[str, Any]):
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status < "400" or name == "GET /health/ready":
                continue
            content = response["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}, f"{name} {status}"
            assert response["description"], f"{name} {status}"
            error = ErrorBody.model_validate(content["example"]).error
            assert error.code, f"{name} {status}"


def test_every_submit_documents_each_way_it_can_fail(document: dict[str, Any]):
    wanted = {"200", "202", "409", "413", "415", "422", "429", "500", "503", "504", "507"}
    for kind in ("generate", "edit", "fill"):
        assert set(document["paths"][f"/api/{kind}"]["post"]["responses"]) >= wanted


def test_the_longest_wait_is_documented(start_server: ServerFactory):
    # given
    document = start_server(max_wait_seconds=42).client.get("/openapi.json").json()

    # when
    waits = {
        name: [part.get("maximum") for part in parameter["schema"].get("anyOf", [parameter["schema"]])]
        for name, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "wait"
    }

    # then
    assert waits.pop("GET /api/jobs/{job_id}") == [42]
    assert waits == {f"POST /api/{kind}": [42, None] for kind in ("generate", "edit", "fill")}


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references == set(document["components"]["schemas"])


def test_what_is_sent_and_what_comes_back_has_examples(document: dict[str, Any]):
    schemas = document["components"]["schemas"]
    for name in ("TextGenerateRequest", "JobRead", "ErrorBody"):
        assert schemas[name]["examples"], name
    for kind in ("edit", "fill"):
        body = document["paths"][f"/api/{kind}"]["post"]["requestBody"]["content"]
        assert list(body) == ["multipart/form-data"]
        form = schemas[body["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]]
        assert form["properties"]["prompt"]["examples"]
        assert "prompt" in form["required"]


def test_each_example_of_a_request_is_accepted(server: Server, document: dict[str, Any]):
    for example in document["components"]["schemas"]["TextGenerateRequest"]["examples"]:
        assert server.client.post("/api/generate", json=example).status_code == 202


@pytest.mark.parametrize("model", [JobRead, JobWithImage, ErrorBody])
def test_the_examples_of_answers_are_valid(model: type[BaseModel]):
    for example in model.model_json_schema()["examples"]:
        model.model_validate(example)


def test_the_plain_synchronous_answer_is_one_picture():
    assert set(ImageResponse.model_fields) == {"image_base64"}


def test_a_browser_at_the_root_is_led_to_the_guide(client: TestClient):
    answer = client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, "/docs")
    assert client.get("/docs").status_code == 200
