"""`output_format` over HTTP: stored, refused in words, and served under its own type."""

from __future__ import annotations

import pytest

from shared.domain.output_format import OutputFormat
from tests.endpoints.server import Server
from tests.factories import png_bytes


@pytest.mark.parametrize("wanted", [*OutputFormat])
def test_the_format_is_stored_for_json_and_forms(server: Server, wanted: OutputFormat):
    body = {"prompt": "a red circle", "output_format": wanted.value}
    files = {"file": ("a.png", png_bytes())}
    for response in (
        server.client.post("/api/generate", json=body),
        server.client.post("/api/edit", data=body, files=files),
    ):
        assert response.status_code == 202
        assert response.json()["params"]["output_format"] == wanted


def test_another_word_is_refused(server: Server):
    response = server.client.post("/api/generate", json={"prompt": "x", "output_format": "gif"})
    assert response.status_code == 422
    assert response.json()["error"]["details"]["field"] == "output_format"
