"""The API guide works without the internet, and its page may load nothing from elsewhere."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from tests.endpoints.server import Server


@pytest.fixture
def client(untouched_server: Server) -> TestClient:
    return untouched_server.client


def linked(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', page)


def test_everything_that_the_guide_loads_comes_from_this_server(client: TestClient):
    # given
    page = client.get("/docs")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"

    # when
    answers = {address: client.get(f"/{address}") for address in linked(page.text)}

    # then
    assert len(answers) == 5
    for address, answer in answers.items():
        assert "//" not in address
        assert answer.status_code == 200, address
        assert answer.content, address
        if address != "openapi.json":
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"SwaggerUIBundle" in answers["docs/swagger-ui-bundle.js"].content
    assert answers["docs/swagger-ui-bundle.js"].headers["Content-Type"].startswith("text/javascript")
    assert answers["docs/swagger-ui.css"].headers["Content-Type"].startswith("text/css")


def test_the_policy_of_the_guide_names_no_foreign_host_and_lets_no_inline_script_run(client: TestClient):
    # when
    page = client.get("/docs")

    # then
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    sources = {source for value in policy.values() for source in value.split()}
    assert sources <= {"'none'", "'self'", "data:", "blob:"}
    assert re.findall(r"<script(?![^>]* src=)|<style| on\w+=| style=", page.text) == []


def test_the_guide_asks_no_validator_elsewhere(client: TestClient):
    start = client.get("/docs/start.js").text
    assert "validatorUrl: null" in start
    assert "//" not in start


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect", "/docs/__init__.py", "/docs/..%2f__init__.py"])
def test_the_guide_has_no_other_files(client: TestClient, path: str):
    assert client.get(path).status_code == 404
