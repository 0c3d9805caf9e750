"""The audit finds each kind of broken promise, on a real database and real files."""

import hashlib
import os
from datetime import timedelta

import pytest
from sqlalchemy import update

from shared.clock import utc_now
from shared.db.audit import audit
from shared.db.claims import ClaimRepository
from shared.db.jobs import JobRepository
from shared.db.models import AttemptRow, ImageRow, JobRow
from shared.db.rescues import RescueRepository
from shared.domain.job import Claim, JobImage, Lane, Timings
from shared.domain.route import simple_route
from shared.domain.status import Phase
from shared.ids import new_image_id
from shared.storage.local import LocalMediaStorage
from tests.builders import new_job

LEASE = timedelta(seconds=30)


@pytest.fixture
def media_dir(tmp_path):
    return tmp_path / "media"


@pytest.fixture
def done(database, media_dir):
    """A succeeded job with one picture."""
    claims = ClaimRepository(database)
    job = JobRepository(database).add(new_job(), 10)
    claims.claim(Lane.GPU, "w1", LEASE)
    data, path = b"pixels", f"{job.id}/1-0.png"
    LocalMediaStorage(media_dir).put(path, data)
    image = JobImage(
        id=new_image_id(), index=0, seed=1, width=8, height=8, path=path, content_type="image/png",
        size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    claims.succeed(Claim(job_id=job.id, attempt=1, owner="w1"), [image], Timings(), [])
    return job


def tamper(database, statement):
    with database.write() as connection:
        connection.execute(statement)


def found(database, media_dir):
    return [(violation.invariant, violation.subject) for violation in audit(database, media_dir)]


def test_an_honest_database_has_no_violation(database, media_dir, done):
    claims, jobs = ClaimRepository(database), JobRepository(database)
    for _ in range(3):
        jobs.add(new_job(), 10)
    claims.claim(Lane.GPU, "w1", LEASE)
    RescueRepository(database).rescue_others(Lane.GPU, "w2")
    claims.claim(Lane.GPU, "w2", LEASE)
    jobs.request_cancel(jobs.add(new_job(), 10).id)
    assert found(database, media_dir) == []


def test_a_lost_picture_is_found(database, media_dir, done):
    (media_dir / done.id / "1-0.png").unlink()
    assert found(database, media_dir) == [("I4", done.id)]


def test_a_changed_picture_is_found(database, media_dir, done):
    (media_dir / done.id / "1-0.png").write_bytes(b"other!")
    assert found(database, media_dir) == [("I4", done.id)]


def test_a_success_without_its_row_is_found(database, media_dir, done):
    tamper(database, update(ImageRow).values(image_index=1))
    assert found(database, media_dir) == [("I4", done.id)]


def test_a_picture_of_another_attempt_is_found(database, media_dir, done):
    tamper(database, update(ImageRow).values(attempt=2))
    assert found(database, media_dir) == [("I8", done.id)]


def test_a_picture_of_an_attempt_that_failed_is_found(database, media_dir, done):
    tamper(database, update(AttemptRow).values(outcome="retry"))
    assert found(database, media_dir) == [("I8", done.id)]


def test_a_picture_with_a_false_maker_is_found(database, media_dir, done):
    tamper(database, update(ImageRow).values(generator="remote"))
    assert found(database, media_dir) == [("I10", done.id)]


def test_a_job_in_another_lane_than_its_leg_is_found(database, media_dir, done):
    tamper(database, update(JobRow).values(lane=Lane.REMOTE))
    assert found(database, media_dir) == [("I10", done.id)]


def test_a_route_with_a_hole_is_found(database, media_dir):
    job = JobRepository(database).add(new_job(route=simple_route("demo", 2)), 10)
    assert found(database, media_dir) == [("I10", job.id)]


def test_an_attempt_left_open_is_found(database, media_dir, done):
    tamper(database, update(AttemptRow).values(ended_at=None))
    assert found(database, media_dir) == [("I5", done.id)]


def test_a_job_of_a_dead_owner_is_found(database, media_dir):
    job = JobRepository(database).add(new_job(), 10)
    ClaimRepository(database, lambda: utc_now() - timedelta(minutes=5)).claim(Lane.GPU, "w1", LEASE)
    assert found(database, media_dir) == [("I6", job.id)]


def test_a_worker_may_run_one_job_and_save_another_but_no_two_of_either(database, media_dir):
    claims, jobs = ClaimRepository(database), JobRepository(database)
    claimed = []
    for _ in range(2):
        job_id = jobs.add(new_job(), 10).id
        claims.claim(Lane.GPU, "w1", LEASE)
        claimed.append(Claim(job_id=job_id, attempt=1, owner="w1"))
    assert found(database, media_dir) == [("I5", "w1")]
    claims.set_phase(claimed[0], Phase.SAVING)
    assert found(database, media_dir) == []
    claims.set_phase(claimed[1], Phase.SAVING)
    assert found(database, media_dir) == [("I5", "w1")]


def test_too_many_crashes_are_found(database, media_dir, done):
    tamper(database, update(JobRow).values(crashes=4))
    assert found(database, media_dir) == [("I7", done.id)]


def test_an_end_without_its_time_is_found(database, media_dir, done):
    tamper(database, update(JobRow).values(finished_at=None))
    assert found(database, media_dir) == [("I3", done.id)]


def test_only_an_old_file_without_a_row_is_found(database, media_dir, done):
    for name in ("new.png", "old.png"):
        (media_dir / name).write_bytes(b"x")
    long_ago = (utc_now() - timedelta(hours=3)).timestamp()
    os.utime(media_dir / "old.png", (long_ago, long_ago))
    assert found(database, media_dir) == [("I9", "old.png")]
