"""Behind a proxy that shows the server under another name and below a path: addresses are as the caller writes them."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.endpoints.submitting import PROMPT
from tests.endpoints.test_guide import linked

PROXY = "10.0.0.7"


@pytest.fixture
def server(start_server: ServerFactory) -> Server:
    return start_server(forwarded_allow_ips=PROXY, allowed_hosts="pictures.example")


def through_proxy(server: Server, sender: str = PROXY) -> TestClient:
    """A client whose requests come from the address of ``sender``."""
    return TestClient(server.app, base_url="http://127.0.0.1:8000", client=(sender, 50_000), follow_redirects=False)


def every_address(document: Any) -> list[str]:
    """All values in an answer that are addresses of this server."""
    if isinstance(document, dict):
        return [found for value in document.values() for found in every_address(value)]
    if isinstance(document, list):
        return [found for value in document for found in every_address(value)]
    return [document] if isinstance(document, str) and "/api/" in document else []


def finished_job(server: Server, client: TestClient, headers: dict[str, str], path: str = "") -> Any:
    response = client.post(f"{path}/api/generate", json={"prompt": PROMPT, "num_images": 2}, headers=headers)
    assert response.status_code == 202
    server.worker.run_one()
    assert response.headers["Location"].startswith("/flux/api/jobs/job_")
    return client.get(f"{path}/api/jobs/{response.json()['id']}", headers=headers).json()


@pytest.mark.parametrize("path", ["", "/flux"], ids=["cut off by the proxy", "left by the proxy"])
@pytest.mark.parametrize("prefix", ["/flux", "/flux/"])
def test_addresses_carry_the_prefix_of_a_trusted_proxy(server: Server, path: str, prefix: str):
    # given
    headers = {"X-Forwarded-Prefix": prefix}
    client = through_proxy(server)

    # when
    job = finished_job(server, client, headers, path)

    # then
    addresses = every_address(job)
    assert len(addresses) == 5
    for address in addresses:
        assert address.startswith("/flux/api/")
    for address in (job["urls"]["self"], job["urls"]["grid"], job["images"][0]["url"]):
        assert client.get(address.removeprefix("/flux"), headers=headers).status_code == 200
        assert client.get(address, headers=headers).status_code == 200
    listed = client.get(f"{path}/api/jobs", headers=headers).json()
    assert every_address(listed["jobs"][0]) == addresses
    assert client.get(f"{path}/", headers=headers).headers["Location"] == "/flux/docs"
    assert client.get(f"{path}/openapi.json", headers=headers).json()["servers"] == [{"url": "/flux"}]


@pytest.mark.parametrize("path", ["", "/flux"], ids=["cut off by the proxy", "left by the proxy"])
def test_addresses_carry_the_prefix_of_the_settings(start_server: ServerFactory, path: str):
    # given
    server = start_server(root_path="/flux")

    # when
    job = finished_job(server, server.client, {}, path)

    # then
    assert all(address.startswith("/flux/api/") for address in every_address(job))
    page = server.client.get(f"{path}/docs").text
    for address in linked(page):  # relative to the page, which the browser knows as /flux/docs
        assert server.client.get(f"/flux/{address}").status_code == 200
    assert server.client.get("/openapi.json").json()["servers"] == [{"url": "/flux"}]
    assert server.client.get("/health").status_code == server.client.get("/flux/health").status_code == 200
    assert server.client.get("/fluxx/health").status_code == 404


def test_one_request_says_nothing_about_the_next(server: Server):
    # given
    client = through_proxy(server)
    client.get("/api/jobs", headers={"X-Forwarded-Prefix": "/flux"})

    # when
    response = client.post("/api/generate", json={"prompt": PROMPT})

    # then
    assert response.headers["Location"].startswith("/api/jobs/")
    assert client.get("/openapi.json").json().get("servers") is None


@pytest.mark.parametrize("prefix", ["//evil.example", "flux", "/a/../b", "/a?b=c", '/"><script>', "/api"])
def test_a_prefix_that_is_no_plain_path_is_refused(server: Server, prefix: str):
    # when
    response = through_proxy(server).get("/", headers={"X-Forwarded-Prefix": prefix})

    # then
    assert response.status_code == 422
    assert response.json()["error"]["details"]["field"] == "X-Forwarded-Prefix"


def test_others_than_trusted_proxies_are_not_believed(server: Server):
    # when
    said = {"X-Forwarded-Prefix": "/flux", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    response = through_proxy(server, "10.0.0.8").get("/", headers=said)

    # then
    assert (response.status_code, response.headers["Location"]) == (307, "/docs")


def test_a_page_behind_the_proxy_may_give_orders(server: Server):
    # when: the proxy asks under a name of its own and passes the caller's on
    headers = {"X-Forwarded-Host": "pictures.example", "X-Forwarded-Proto": "https"}
    page = {"Origin": "https://pictures.example"}
    answered = [
        through_proxy(server, sender).post("/api/queue/pause", headers={**headers, **page}).status_code
        for sender in (PROXY, "10.0.0.8")
    ]

    # then
    assert answered == [200, 403]


@pytest.mark.parametrize("names", ["evil.example", "pictures.example, evil.example", "evil.example, pictures.example"])
def test_a_name_that_the_proxy_passes_on_must_be_known_too(server: Server, names: str):
    assert through_proxy(server).get("/api/jobs", headers={"X-Forwarded-Host": names}).status_code == 421


def test_a_rebound_name_is_not_hidden_by_a_header_that_its_page_wrote(start_server: ServerFactory):
    # given: a browser on this machine is where trusted proxies are, too
    client = through_proxy(start_server(), "127.0.0.1")

    # when
    response = client.get("/api/jobs", headers={"Host": "evil.example", "X-Forwarded-Host": "localhost"})

    # then
    assert response.status_code == 421


def test_an_address_with_a_slash_too_many_leads_to_the_name_that_the_caller_used(server: Server):
    # when
    headers = {"X-Forwarded-Host": "pictures.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/flux"}
    response = through_proxy(server).get("/api/jobs/", headers=headers)

    # then
    assert response.headers["Location"] == "https://pictures.example/flux/api/jobs"
