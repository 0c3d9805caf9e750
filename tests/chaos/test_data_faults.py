"""A database that is locked, full or cut off in a write; a media directory that is full or gone; backups under load."""

import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import pysqlite3.dbapi2 as sqlite
import pytest

from shared.db.audit import audit
from shared.db.engine import Database
from shared.db.models import Base
from shared.domain.status import JobStatus
from tests.chaos import points
from tests.chaos.clock import set_offset
from tests.chaos.rig import BUSY_SECONDS, PATIENCE_SECONDS, running_rig
from tests.chaos.worker_root import NOISE
from tests.stack import wait_for

pytestmark = pytest.mark.timeout(400)


@contextmanager
def longest_file(pid, size_bytes):
    """Let a process write no file beyond a size: a full disk, for a process that has the right to write."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        if psutil.pid_exists(pid):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class TestLockedDatabase:
    """The wait for a lock is 10 s; here it is two, so that 8 and 60 s of the fault matrix are 1 and 6 s."""

    @pytest.mark.parametrize("phase", ["claimed", "before commit"])
    def test_a_lock_shorter_than_the_wait_delays_and_nothing_else(self, rig, phase):
        # Given a worker that is about to write
        with rig.job_kept_at(phase) as job_id, rig.database.write():
            # When another writer holds the lock as it goes on
            rig.points.release(phase)
            hold(BUSY_SECONDS / 2)
        # Then the job is done at the first attempt
        assert rig.settle().is_clean
        assert rig.job(job_id).attempt == 1

    def test_a_lock_longer_than_the_wait_loses_no_result(self, rig):
        # Given a job about to be published
        with rig.job_kept_at("before commit") as job_id, rig.database.write():
            # When another writer holds the lock three times as long as one write waits
            rig.points.release("before commit")
            hold(3 * BUSY_SECONDS)
            # And a caller comes meanwhile, who is told in words to come again
            refused = rig.post(seed := rig.next_seed())
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
        # Then the job is published, by this attempt or the next, and the caller's second try is taken
        rig.history.accepted[seed] = rig.post(seed).json()["id"]
        assert rig.settle().is_clean
        assert rig.job(job_id).status is JobStatus.SUCCEEDED


class TestFullDisk:
    @pytest.fixture
    def rig(self, tmp_path):
        """A stack of its own: its database must stay smaller than one picture."""
        with running_rig(tmp_path / "data") as rig:
            yield rig
            assert rig.settle().is_clean, rig.logs()

    def test_a_picture_that_does_not_fit_is_tried_again_when_there_is_room(self, rig):
        # Given a worker whose disk takes no file of 1.5 MB any more, and a small database
        with rig.database.engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with longest_file(rig.child().pid, 1_500_000):
            job_id = rig.submit(1, prompt=NOISE, width=768, height=768)[0]
            wait_for(lambda: rig.job(job_id).errors == 1, "the write fails", PATIENCE_SECONDS)
            # Then the job waits for its next try, and no half of a file is left
            failed = rig.job(job_id)
            assert (failed.status, failed.attempts[0].error.code) == (JobStatus.QUEUED, "storage_failed")
            assert failed.schedule.not_before > failed.created_at
            assert list((rig.data_dir / "media" / job_id).glob("*")) == []
            # And others wait without losing a try
            rig.submit(2)
        # And with room all are done
        done = rig.wait_for_status(job_id, JobStatus.SUCCEEDED)
        assert done.images[0].size_bytes > 1_500_000

    def test_a_database_that_cannot_grow_refuses_in_words_and_goes_on_when_it_can(self, rig):
        # Given an API whose disk takes no more of the write-ahead log
        with longest_file(rig.api.pid, (rig.data_dir / "flux-image.db-wal").stat().st_size):
            refused = rig.post(seed := rig.next_seed())
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
        # When there is room again, then the same submit is taken, and the file is sound
        assert rig.post(seed).status_code == 202
        assert integrity(rig.data_dir / "flux-image.db") == "ok"


def test_a_media_directory_that_cannot_be_written_loses_no_job(rig):
    # Given a media directory that is no directory any more
    media = rig.data_dir / "media"
    media.rename(rig.data_dir / "away")
    media.write_text("not a directory")
    try:
        job_id = rig.submit()[0]
        wait_for(lambda: rig.job(job_id).errors == 1, "the write fails", PATIENCE_SECONDS)
    finally:
        media.unlink()
        (rig.data_dir / "away").rename(media)
    # When it is back, then the job is done as its next attempt
    assert rig.settle().is_clean
    assert [attempt.outcome for attempt in rig.job(job_id).attempts] == ["retry", "finish"]


def test_a_full_disk_at_any_file_is_no_end_of_a_job(rig):
    rig.points.arm("before file", points.DISK_FULL)
    job_id = rig.submit(1, num_images=3)[0]
    assert rig.settle().is_clean
    assert [attempt.outcome for attempt in rig.job(job_id).attempts] == ["retry", "finish"]


def test_a_copy_of_the_files_at_any_moment_keeps_every_promise(rig, tmp_path):
    """A power cut keeps what was written so far, up to a torn end of the write-ahead log, and of it the synced part."""
    dice = random.Random(20261121)
    jobs = rig.submit(30, num_images=2)
    for number in range(12):
        # Given all writers frozen at some moment of their work
        wait_for(lambda number=number: done(rig, jobs) >= 2 * number, "jobs go on", PATIENCE_SECONDS)
        child = rig.child()
        hold(dice.uniform(0, 0.1))
        for pid in (rig.api.pid, child.pid):
            os.kill(pid, signal.SIGSTOP)
        # When database and log are copied as they are, and the log loses some of what was not in the database yet
        copy = tmp_path / str(number) / "flux-image.db"
        copy.parent.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{rig.data_dir / 'flux-image.db'}{suffix}", f"{copy}{suffix}")
        cut_off(copy, Path(f"{rig.data_dir / 'flux-image.db'}-shm").read_bytes(), dice)
        for pid in (rig.api.pid, child.pid):
            os.kill(pid, signal.SIGCONT)
        # Then the copy is sound, and every row of it keeps its promises with the files that were written by then
        assert integrity(copy) == "ok"
        database = Database(f"sqlite:///{copy}")
        assert broken(database, rig.data_dir / "media", rig.clock) == []
        database.dispose()
    assert rig.settle().is_clean


def test_a_backup_under_load_is_sound_and_a_restored_copy_is_complete(rig, tmp_path):
    # Given jobs that stream in
    finished = rig.submit(5)
    for job_id in finished:
        rig.wait_for_status(job_id, JobStatus.SUCCEEDED)
    rig.submit(15, num_inference_steps=10)
    # When the data is backed up meanwhile and restored elsewhere
    for words in (
        ("backup", tmp_path / "backup", "--data-dir", rig.data_dir),
        ("restore", tmp_path / "backup", "--data-dir", tmp_path / "restored"),
    ):
        answer = subprocess.run([sys.executable, "-m", "cli", *map(str, words)], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
    # Then the copy keeps every promise but that somebody still works on it, and has what was finished before
    database = Database(f"sqlite:///{tmp_path / 'restored' / 'flux-image.db'}")
    assert [
        found for found in audit(database, tmp_path / "restored" / "media", rig.clock) if found.invariant != "I6"
    ] == []
    with database.read() as connection:
        rows = {row.id: row.status for row in connection.execute(Base.metadata.tables["jobs"].select())}
    database.dispose()
    assert {rows[job_id] for job_id in finished} == {JobStatus.SUCCEEDED}
    assert rig.settle().is_clean


class TestClock:
    @pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(hours=-2)], ids=["forward", "back"])
    def test_a_clock_that_jumps_while_a_job_runs_costs_at_most_an_attempt(self, rig, jump):
        # Given a running job and queued ones
        with rig.job_kept_at("denoising") as running:
            waiting = rig.submit(4)
            # When the clock of the whole machine jumps
            set_offset(rig.data_dir, jump)
            rig.submit(2)
        # Then all are done, and each job's own times do not run backwards further than the clock did
        for job_id in [running, *waiting]:
            assert rig.wait_for_status(job_id, JobStatus.SUCCEEDED).attempt <= 2
        set_offset(rig.data_dir, timedelta(0))  # seen from hours later, a file that is being written looks forgotten
        rig.submit(2)
        assert rig.settle().is_clean


def hold(seconds):
    """Let real time pass, because the fault is a length of time."""
    threading.Event().wait(seconds)


def cut_off(database, shared_memory, dice):
    """Truncate a log anywhere after the frames that may be in the database already: those were synced before.

    Layout: https://sqlite.org/walformat.html, sections 1.2 (frames) and 2.1 (mxFrame at 16, nBackfill at 96 and
    nBackfillAttempted at 128, which a checkpoint sets before it syncs the log and writes to the database).
    """
    last, done, begun = (struct.unpack_from("=I", shared_memory, offset)[0] for offset in (16, 96, 128))
    log = Path(f"{database}-wal")
    page_size = int.from_bytes(log.read_bytes()[8:12], "big")
    first, end = (32 + frames * (24 + page_size) for frames in (max(done, begun), last))
    os.truncate(log, dice.randint(first, max(first, end)))


def broken(database, media_dir, clock):
    """Every violation in a copy, but that somebody still works on its jobs."""
    return [found for found in audit(database, media_dir, clock) if found.invariant != "I6"]


def done(rig, job_ids):
    return sum(job.status is JobStatus.SUCCEEDED for job in map(rig.job, job_ids))


def integrity(path):
    connection = sqlite.connect(str(path))
    try:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        connection.close()
