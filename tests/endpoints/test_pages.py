"""Who may ask: foreign pages give no orders, and no page reads this server under a name that it does not have."""

from __future__ import annotations

import socket

import pytest

from shared.schemas.server import ErrorBody
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.endpoints.submitting import PROMPT

HERE = {"Host": "127.0.0.1:8000"}
PAGE = "http://localhost:5173"

ORDERS = [
    ("POST", "/api/queue/pause"),
    ("POST", "/api/queue/cancel"),
    ("POST", "/api/generate"),
    ("POST", "/api/edit"),
    ("POST", "/api/jobs/nothing/cancel"),
    ("PATCH", "/api/jobs/nothing"),
    ("DELETE", "/api/jobs/nothing"),
    ("POST", "/nothing"),
]
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:8001"},
    {"Origin": "http://127.0.0.1:8000.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site", "Origin": "http://127.0.0.1:8000"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
]


@pytest.mark.parametrize(("method", "path"), ORDERS)
@pytest.mark.parametrize("sent", FOREIGN, ids=lambda sent: " ".join(sent.values()))
def test_a_foreign_page_gives_no_orders(untouched_server: Server, method: str, path: str, sent: dict[str, str]):
    # when
    response = untouched_server.client.request(method, path, headers={**HERE, **sent})

    # then
    assert response.status_code == 403
    error = ErrorBody.model_validate_json(response.content).error
    assert (error.code, error.details["field"]) == ("foreign_origin", "Origin")
    assert "FLUX_CORS_ORIGINS" in error.message
    untouched_server.assert_nothing_left()
    assert untouched_server.client.get("/api/queue").json()["paused"] is False


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Origin": PAGE},
        {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        # the browser says so itself, also where a proxy has changed the name
        {"Origin": "https://pictures.example", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=lambda sent: " ".join(sent.values()) or "a program",
)
def test_own_pages_known_pages_and_programs_may_submit(server: Server, sent: dict[str, str]):
    assert server.client.post("/api/generate", json={"prompt": PROMPT}, headers={**HERE, **sent}).status_code == 202


@pytest.mark.parametrize("path", ["/api/jobs", "/health", "/docs"])
def test_a_link_on_a_foreign_page_may_lead_here(untouched_server: Server, path: str):
    assert untouched_server.client.get(path, headers={**HERE, "Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_whoever_opens_the_server_to_all_pages_lets_them_give_orders(start_server: ServerFactory):
    # given
    server = start_server(cors_origins="*")

    # when
    response = server.client.post("/api/queue/pause", headers={"Origin": "http://any.example"})

    # then
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"


UNKNOWN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost:5173.evil.example",
    "user@localhost",
    "203.0.113.9",
    "[2001:db8::1]:8000",
    "localhost:8000, evil.example",
]


@pytest.mark.parametrize("host", UNKNOWN)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/jobs"), ("GET", "/health"), ("GET", "/docs"), ("POST", "/api/queue/pause")]
)
def test_a_name_that_is_not_this_servers_is_refused(untouched_server: Server, method: str, path: str, host: str):
    # when: the page of a rebound name is of the same origin as what it asks
    origin = {"Origin": f"http://{host}"} if method == "POST" else {}
    response = untouched_server.client.request(method, path, headers={"Host": host, **origin})

    # then
    assert response.status_code == 421
    error = ErrorBody.model_validate_json(response.content).error
    assert (error.code, error.details["field"]) == ("unknown_host", "Host")
    assert "FLUX_ALLOWED_HOSTS" in error.message


NAME = socket.gethostname()
KNOWN = ["localhost", "LOCALHOST.:8000", "x.localhost", "127.0.0.1", "127.8.7.6:1", "[::1]:8000", "0.0.0.0:8000"]


@pytest.mark.parametrize("host", [*KNOWN, NAME, f"{NAME.upper()}.:8000", f"{NAME.partition('.')[0]}.local", ""])
def test_loopback_and_this_machines_own_names_are_known(untouched_server: Server, host: str):
    assert untouched_server.client.get("/api/jobs", headers={"Host": host}).status_code == 200


def test_the_address_that_was_connected_to_is_known(untouched_server: Server):
    # given: the server listens on all addresses, and the caller has used this one
    scope_server = ("192.168.7.9", 8000)

    # when
    answered = [
        untouched_server.call_as_written("GET", "/api/jobs", {"Host": host}, server=scope_server)[0]
        for host in ("192.168.7.9:8000", "[::ffff:192.168.7.9]:8000", "192.168.7.10:8000")
    ]

    # then
    assert answered == [200, 200, 421]


def test_a_second_host_header_hides_no_unknown_one(untouched_server: Server):
    # when
    headers = [("Host", "localhost"), ("Host", "evil.example")]
    response = untouched_server.client.get("/api/jobs", headers=headers)

    # then
    assert response.status_code == 421


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ("pictures.example", "Pictures.Example.:443", 200),
        ("pictures.example", "sub.pictures.example", 421),
        ("*.example", "sub.pictures.example", 200),
        ("*.example", "example", 421),
        ("*", "anything.test", 200),
        ("192.168.7.9, fe80::1", "[fe80::1]:8000", 200),
    ],
)
def test_more_names_can_be_allowed(start_server: ServerFactory, allowed: str, host: str, status: int):
    assert start_server(allowed_hosts=allowed).client.get("/api/jobs", headers={"Host": host}).status_code == status


def test_origins_that_may_read_are_no_names_of_this_server(start_server: ServerFactory):
    # given
    server = start_server(cors_origins="http://page.example")

    # when
    response = server.client.get("/api/jobs", headers={"Host": "page.example"})

    # then
    assert response.status_code == 421
