"""A request that is too long is refused before it is read, or as soon as it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from shared.schemas.server import ErrorBody
from tests.endpoints.bad_requests import BOUNDARY, JSON, MULTIPART
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server

MAX_BYTES = 100_000


@pytest.fixture
def small_server(start_server: ServerFactory) -> Server:
    """A server that takes little, so that tests need not send much."""
    return start_server(max_upload_bytes=MAX_BYTES)


def test_a_request_above_the_limit_is_refused_by_its_length_before_a_byte_is_read(small_server: Server):
    # given
    stream = Endless()

    # when
    status, headers, body = post_endlessly(
        small_server, stream, {"Content-Length": str(MAX_BYTES + 1), "Content-Type": MULTIPART}
    )

    # then
    assert status == 413
    assert stream.taken == 0
    error = ErrorBody.model_validate_json(body).error
    assert (error.code, error.details) == ("upload_too_large", {"field": "body", "limit": MAX_BYTES})
    assert headers["access-control-allow-origin"] == "http://localhost:5173"
    small_server.assert_nothing_left()


@pytest.mark.parametrize("content_type", [MULTIPART, JSON])
def test_a_request_of_unknown_length_is_refused_as_soon_as_it_is_above_the_limit(
    small_server: Server, content_type: str
):
    # given
    stream = Endless()

    # when
    status, headers, body = post_endlessly(
        small_server, stream, {"Content-Type": content_type, "Transfer-Encoding": "chunked"}
    )

    # then
    assert status == 413
    assert MAX_BYTES < stream.taken <= MAX_BYTES + Endless.CHUNK
    error = ErrorBody.model_validate_json(body).error
    assert (error.code, error.details) == ("upload_too_large", {"field": "body", "limit": MAX_BYTES})
    assert headers["access-control-allow-origin"] == "http://localhost:5173"
    small_server.assert_nothing_left()


@pytest.mark.parametrize("length", ["-1", "1e9", "", "٣"])
def test_a_length_that_is_no_number_does_not_lift_the_limit(small_server: Server, length: str):
    # when
    status, _, _ = post_endlessly(small_server, Endless(), {"Content-Type": MULTIPART, "Content-Length": length})

    # then
    assert status == 413


def test_a_request_at_the_limit_is_read(small_server: Server):
    # given
    frame = len('{"prompt": ""}')

    # when
    response = small_server.client.post(
        "/api/generate", content=b'{"prompt": "' + b"x" * (MAX_BYTES - frame) + b'"}', headers={"Content-Type": JSON}
    )

    # then: it is only too long for a prompt
    assert response.status_code == 422


class Endless:
    """A request body that never ends; counts the bytes that were taken from it."""

    CHUNK = 16_384

    def __init__(self) -> None:
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
        self.taken += self.CHUNK
        return {"type": "http.request", "body": part.ljust(self.CHUNK, b"x"), "more_body": True}


def post_endlessly(server: Server, stream: Endless, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    path = "/api/generate" if headers["Content-Type"] == JSON else "/api/edit"
    return server.call_as_written("POST", path, {"Origin": "http://localhost:5173", **headers}, stream.receive)
