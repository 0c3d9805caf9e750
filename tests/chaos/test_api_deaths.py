"""An API that dies between any two instructions of a submit, and callers who ask twice."""

import os
import signal
import socket
import threading
from datetime import timedelta
from urllib.parse import urlsplit

import httpx2
import pytest

from api.services.sweeper import Sweeper
from shared.domain.status import JobStatus
from shared.storage.local import LocalMediaStorage
from tests.chaos.rig import PATIENCE_SECONDS, running_rig
from tests.factories import png_bytes
from tests.stack import wait_for

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory):
    """Its API waits for the database as long as it takes: whatever is cut short here was cut by a kill."""
    with running_rig(tmp_path_factory.mktemp("rig") / "data", busy_seconds=PATIENCE_SECONDS) as rig:
        yield rig


def test_a_ring_that_was_never_sent_is_made_up_for(rig):
    # Given a broker that takes no messages, so that the ring of an accepted job is still to be sent
    os.kill(rig.broker_pid, signal.SIGSTOP)
    jobs = rig.submit(5)
    # When the API dies with it, and comes back after the broker
    rig.api.kill()
    os.kill(rig.broker_pid, signal.SIGCONT)
    rig.api.start()
    # Then the jobs run all the same
    assert rig.settle().is_clean
    assert {rig.job(job_id).status for job_id in jobs} == {JobStatus.SUCCEEDED}


def test_an_api_killed_at_any_moment_of_many_submits_accepts_each_exactly_once(rig):
    # Given a client that submits again, with the same key, until it has an answer
    ids, accepted_before = [], len(rig.history.accepted)
    client = threading.Thread(target=lambda: ids.extend(rig.submit(18)))
    client.start()
    # When the API is killed again and again meanwhile
    for count in (3, 9, 15):
        wanted = accepted_before + count
        wait_for(lambda: len(rig.history.accepted) >= wanted, "submits go on", PATIENCE_SECONDS)  # noqa: B023
        rig.api.restart()
    client.join(PATIENCE_SECONDS)
    # Then there are as many jobs as submits
    assert rig.settle().is_clean
    assert len(set(ids)) == 18


def test_an_upload_that_is_cut_off_by_a_kill_leaves_nothing(rig):
    # Given half of an upload
    before = sorted((rig.data_dir / "media").rglob("*"))
    host, port = urlsplit(rig.url).netloc.split(":")
    head = (
        f"POST /api/edit HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
        '--cut\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    )
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head.encode() + png_bytes())
        # When the API is killed
        rig.api.restart()
    # Then neither a row nor a file came of it
    rig.wait_until_ready()
    assert rig.judge().is_clean
    assert sorted((rig.data_dir / "media").rglob("*")) == before


def test_inputs_whose_row_was_never_written_are_swept(rig):
    # Given an edit whose picture is stored, and whose row waits for another writer
    media = rig.data_dir / "media"
    before = set(media.rglob("input-*.png"))

    def edit():
        with pytest.raises(httpx2.TransportError):
            httpx2.post(
                f"{rig.url}/api/edit",
                data={"prompt": "make it green", "model": "demo-kontext"},
                files={"file": ("a.png", png_bytes(), "image/png")},
                timeout=PATIENCE_SECONDS,
            )

    with rig.database.write():
        client = threading.Thread(target=edit)
        client.start()
        wait_for(lambda: set(media.rglob("input-*.png")) - before, "the picture is stored", PATIENCE_SECONDS)
        # When the API is killed there
        rig.api.kill()
    client.join(PATIENCE_SECONDS)
    orphan = (set(media.rglob("input-*.png")) - before).pop()
    rig.api.start()
    rig.wait_until_ready()
    # Then no job came of it, and the sweeper takes the picture away once it is old
    assert rig.judge().is_clean
    sweeper = Sweeper(rig.database, LocalMediaStorage(media), lambda: rig.clock() + timedelta(hours=2))
    assert str(orphan.relative_to(media)) in sweeper.sweep()
    assert not orphan.exists()


def test_the_same_key_at_the_same_moment_is_one_job(rig):
    # Given ten equal submits with one key, at once
    seed, gate, ids = rig.next_seed(), threading.Barrier(10), []

    def submit():
        gate.wait()
        ids.append(rig.post(seed).json()["id"])

    threads = [threading.Thread(target=submit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.history.accepted[seed] = ids[0]
    # Then all callers were told of the same job
    assert (len(ids), len(set(ids))) == (10, 1)
    assert rig.settle().is_clean
