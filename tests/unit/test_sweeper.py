from datetime import timedelta

import pytest

from api.services.sweeper import Sweeper
from shared.clock import utc_now
from shared.db.claims import ClaimRepository
from shared.db.jobs import JobRepository
from shared.db.rescues import RescueRepository
from shared.domain.job import JobInput, Lane
from shared.domain.params import InputRole
from shared.storage.local import LocalMediaStorage
from tests.builders import new_job


@pytest.fixture
def storage(tmp_path):
    return LocalMediaStorage(tmp_path / "media")


def sweep(database, storage, hours):
    """Sweep as if it were some hours later."""
    return Sweeper(database, storage, lambda: utc_now() + timedelta(hours=hours)).sweep()


def test_what_a_crash_left_is_deleted_once_it_is_old(database, storage, tmp_path):
    # Given an upload without a row and an unfinished temporary file
    storage.put("job_gone/input-image.png", b"x")
    (tmp_path / "media" / "job_gone" / ".1-0.png-abc.tmp").write_bytes(b"x")
    # When it is young, then it stays; when it is old, then it goes
    assert sweep(database, storage, 0.5) == []
    assert len(sweep(database, storage, 1.5)) == 2
    assert list((tmp_path / "media").iterdir()) == []


def test_what_a_row_names_stays(database, storage):
    item = JobInput(role=InputRole.IMAGE, path="job_x/in.png", width=8, height=8, size_bytes=1, sha256="0" * 64)
    storage.put(item.path, b"x")
    jobs = JobRepository(database)
    jobs.request_cancel(jobs.add(new_job(id="job_x", inputs=(item,)), 10).id)
    assert sweep(database, storage, 5) == []


def test_the_pictures_of_a_job_that_still_runs_stay(database, storage):
    # Given a long job that has saved its first picture but not published it
    job = JobRepository(database).add(new_job(), 10)
    ClaimRepository(database).claim(Lane.GPU, "w1", timedelta(seconds=30))
    storage.put(f"{job.id}/1-0.png", b"x")
    assert sweep(database, storage, 5) == []
    # When it is over without it, then the file goes
    JobRepository(database).request_cancel(job.id)
    RescueRepository(database).rescue_others(Lane.GPU, "w2")
    assert sweep(database, storage, 5) == [f"{job.id}/1-0.png"]
