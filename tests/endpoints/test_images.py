from __future__ import annotations

import pytest

from tests.endpoints.server import Server
from tests.factories import new_job


@pytest.fixture
def image(server: Server) -> dict:
    """A finished picture's record, as its job shows it."""
    job = server.jobs.add(new_job(), 10)
    server.worker.run_one()
    return server.client.get(f"/api/jobs/{job.id}").json()["images"][0]


def test_a_picture_is_served_as_its_bytes(server: Server, image: dict):
    # when
    response = server.client.get(image["url"])

    # then
    assert response.status_code == 200
    assert response.headers["Content-Type"] == image["content_type"] == "image/png"
    assert len(response.content) == image["size_bytes"]
    assert response.headers["ETag"] == f'"{image["sha256"]}"'


def test_a_picture_is_served_so_that_a_browser_keeps_it_and_runs_nothing(server: Server, image: dict):
    # when
    headers = server.client.get(image["url"]).headers

    # then
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert headers["Content-Disposition"] == f'inline; filename="{image["id"]}.png"'


@pytest.mark.parametrize("seen", ['"{sha256}"', 'W/"{sha256}"', '"other", "{sha256}"', "*"])
def test_a_picture_that_the_caller_has_is_not_sent_again(server: Server, image: dict, seen: str):
    # when
    response = server.client.get(image["url"], headers={"If-None-Match": seen.format(sha256=image["sha256"])})

    # then
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["ETag"] == f'"{image["sha256"]}"'
    assert "immutable" in response.headers["Cache-Control"]


def test_another_picture_than_the_caller_has_is_sent(server: Server, image: dict):
    assert server.client.get(image["url"], headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_part_of_a_picture_can_be_asked_for(server: Server, image: dict):
    # when
    response = server.client.get(image["url"], headers={"Range": "bytes=1-3"})

    # then
    assert (response.status_code, response.content) == (206, b"PNG")


def test_a_picture_whose_file_is_gone_is_404(server: Server, image: dict):
    # given
    for path in server.media_files():
        path.unlink()

    # when
    response = server.client.get(image["url"])

    # then
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_the_inputs_of_a_job_are_not_pictures_to_fetch(server: Server, image: dict):
    # given: a name that exists in the media directory
    path = server.media_files()[0].relative_to(server.settings.media_dir)

    # then
    assert server.client.get(f"/api/images/{path}").status_code == 404
    assert server.client.get(f"/api/images/{path.name}").status_code == 404
