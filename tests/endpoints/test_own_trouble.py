"""A full or failing disk is the server's trouble, wherever it shows: 507 or 503 in words, nothing kept, no mistake."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from starlette.requests import ClientDisconnect

from api.own_trouble import own_trouble
from shared.schemas.server import ErrorBody
from tests.endpoints.bad_requests import BOUNDARY, JSON, MULTIPART
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.endpoints.submitting import PROMPT, submit
from tests.factories import mask_bytes, noise_bytes

LARGE = (1024, 1024)
"""Noise of this size is too large to be kept in memory, so that it goes to the temporary directory."""


def upload(server: Server, kind: str) -> Any:
    picture = noise_bytes(*LARGE)
    files = {"file": ("a.png", picture)}
    if kind == "fill":
        files = {"image": ("a.png", picture), "mask": ("m.png", mask_bytes(*LARGE))}
    if kind == "generate":
        files = {"image": ("a.png", picture)}
    return server.client.post(f"/api/{kind}", data={"prompt": PROMPT}, files=files)


def assert_trouble(response: Any, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    error = ErrorBody.model_validate_json(response.content).error
    assert error.code == code
    assert "temporary directory" in error.message
    assert "again" in error.message
    assert ("Retry-After" in response.headers) == (status == 503)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount small file systems."""
    mounted: list[Path] = []

    def mount_at(path: Path, *options: str) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting a small file system needs root: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield mount_at
    for path in mounted:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def soft_limit(kind: int, value: int) -> Iterator[None]:
    """Lower one limit of this process."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_a_full_temporary_directory_is_507(server: Server, mount, tmp_path: Path, monkeypatch, kind: str):
    # given
    monkeypatch.setattr(tempfile, "tempdir", str(mount(tmp_path / "tmp", "size=64k")))

    # when
    response = upload(server, kind)

    # then
    assert_trouble(response, 507, "storage_full")
    server.assert_nothing_left()


def test_a_temporary_directory_that_is_gone_is_503(server: Server, tmp_path: Path, monkeypatch):
    # given
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))

    # when
    response = upload(server, "edit")

    # then
    assert_trouble(response, 503, "storage_failed")
    server.assert_nothing_left()


@pytest.mark.parametrize("kind", ["edit", "fill"])
def test_a_full_media_directory_is_507(start_server: ServerFactory, mount, kind: str):
    # given a disk that nobody has to keep room on, and that is used up while the pictures are written
    server = start_server(min_free_bytes=0)
    mount(server.settings.media_dir, "size=400m")
    (server.settings.media_dir / "ballast").write_bytes(b"")
    with (server.settings.media_dir / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, 399 * 2**20)

    # when
    response = upload(server, kind)

    # then
    assert_trouble(response, 507, "storage_full")
    assert server.count_jobs() == 0
    assert [path.name for path in server.media_files()] == ["ballast"]


def test_a_media_directory_that_is_read_only_is_503(server: Server, mount):
    # given
    mount(server.settings.media_dir, "size=400m", "ro")

    # when
    response = submit(server, "edit")

    # then
    assert_trouble(response, 503, "storage_failed")
    assert server.count_jobs() == 0


def test_a_largest_file_size_that_is_too_small_is_507(server: Server):
    # given
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with soft_limit(resource.RLIMIT_FSIZE, 1_500_000):
            # when
            response = upload(server, "edit")
    finally:
        signal.signal(signal.SIGXFSZ, before)

    # then
    assert_trouble(response, 507, "storage_full")
    server.assert_nothing_left()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 507),
        (OSError(errno.EFBIG, "File too large"), 507),
        (OSError(errno.EIO, "Input/output error"), 503),
        (OSError(errno.EMFILE, "Too many open files"), 503),
        (PermissionError(errno.EACCES, "Permission denied"), 503),
        (OSError(errno.EROFS, "Read-only file system"), 503),
        (OSError(errno.ESTALE, "Stale file handle"), 503),
        (MemoryError(), 503),
        (OperationalError("INSERT", {}, Exception("database or disk is full")), 507),
        (OperationalError("INSERT", {}, Exception("database is locked")), 503),
    ],
)
def test_each_kind_of_own_trouble_has_its_status_however_deep_it_lies(error: BaseException, status: int):
    # given
    outer = ValueError("cannot be parsed")
    outer.__cause__ = RuntimeError()
    outer.__cause__.__cause__ = error

    # when
    found = own_trouble(outer)

    # then
    assert found is not None
    assert found.status_code == status


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        OSError("image file is truncated"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        ClientDisconnect(),
    ],
)
def test_what_callers_and_their_data_do_is_no_own_trouble(error: BaseException):
    assert own_trouble(error) is None


@pytest.mark.parametrize("content_type", [MULTIPART, JSON])
def test_a_caller_that_goes_away_in_the_middle_is_no_error_of_the_server(server: Server, content_type: str, capfd):
    # given
    begun = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    messages = [{"type": "http.request", "body": begun, "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    # when
    path = "/api/generate" if content_type == JSON else "/api/edit"
    status, _, body = server.call_as_written("POST", path, {"Content-Type": content_type}, receive)

    # then
    assert status == 422
    assert "ended too early" in ErrorBody.model_validate_json(body).error.message
    server.assert_nothing_left()
    assert "Traceback" not in "".join(capfd.readouterr())
