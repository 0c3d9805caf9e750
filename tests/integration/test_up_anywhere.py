"""`flux-image up` wherever it is started: odd folders, proxies, IPv6, and a caller's folder full of other code."""

import socket
import tempfile
from pathlib import Path

import httpx2
import pytest

from tests.stack import RunningStack, wait_for
from tests.surroundings import DEAD_PROXIES, EVERYTHING

DECOYS = (
    "api",
    "worker",
    "shared",
    "cli",
    "celery",
    "redis",
    "json",
    "uvicorn",
    "torch",
    "flowerconfig",
    "celeryconfig",
)


@pytest.fixture(scope="module")
def places():
    with tempfile.TemporaryDirectory(prefix="flux-") as folder:  # a short path, so that the socket is in it, too
        yield Path(folder)


@pytest.fixture(scope="module")
def decoyed(places):
    """A folder with code of its own under the names that the server imports."""
    folder = places / "caller"
    for name in DECOYS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"open({str(places / 'imported')!r}, 'a').write({name!r} + ' ')")
    (folder / ".env").write_text("FLUX_MAX_QUEUED_JOBS=7\nHF_HOME=elsewhere\n")
    return folder


@pytest.fixture(scope="module")
def stack(places, decoyed):
    env = {**DEAD_PROXIES, "FLUX_HOST": "::", "COLUMNS": "300"}
    with RunningStack(decoyed / EVERYTHING, env=env, cwd=decoyed) as running:
        yield running
        assert running.stop() == 0


def test_a_job_runs_to_its_picture(stack):
    with stack.client() as client:
        done = client.wait(client.generate("a red circle", seed=1).id, timeout_seconds=120)
        assert len(client.download(done.images[0])) == done.images[0].size_bytes


def test_everything_is_in_the_data_directory_and_nothing_elsewhere(stack, decoyed):
    kept = {path.name for path in stack.data_dir.iterdir()}
    assert {"flux-image.db", "media", "logs", "run", "valkey"} <= kept
    assert (stack.data_dir / "run" / "valkey.sock").is_socket()
    assert {path.name for path in decoyed.iterdir()} == {*DECOYS, ".env", EVERYTHING, f"{EVERYTHING}-up.log"}


def test_no_code_of_the_callers_folder_is_imported(stack, places):
    wait_for(lambda: "is up" in stack.read_output(), "the table is printed")
    assert not (places / "imported").exists()


def test_the_settings_of_the_callers_folder_reach_every_part(stack):
    # Given FLUX_MAX_QUEUED_JOBS=7 there and a queue that stands still
    httpx2.post(f"{stack.url}/api/queue/pause", timeout=30).raise_for_status()
    try:
        answers = [httpx2.post(f"{stack.url}/api/generate", json={"prompt": "a circle"}, timeout=30) for _ in range(8)]
    finally:
        httpx2.post(f"{stack.url}/api/queue/cancel", timeout=30)
        httpx2.post(f"{stack.url}/api/queue/resume", timeout=30)
    assert [answer.status_code for answer in answers] == [202] * 7 + [429]


def test_what_listens_is_what_is_printed(stack):
    port = int(stack.url.rsplit(":", 1)[1])
    output = wait_for(lambda: "is up" in stack.read_output() and stack.read_output(), "the table is printed")
    assert f"http://[::1]:{port}" in output
    for address in ("::1", "127.0.0.1"):
        socket.create_connection((address, port), timeout=5).close()


def test_the_data_directory_is_printed_as_it_is_called(stack):
    output = wait_for(lambda: "is up" in stack.read_output() and stack.read_output(), "the table is printed")
    assert "j[b]${HOME}*~" in output
    assert "[red]" in output
