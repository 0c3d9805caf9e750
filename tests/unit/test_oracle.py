"""The judge of the chaos tests sees each kind of fault that it is there for."""

import pytest
from sqlalchemy import delete, insert, select, update

from shared.db.audit import Violation
from shared.db.models import AttemptRow, JobRow
from shared.domain.job import Claim, JobError, Lane, Timings
from shared.domain.status import JobStatus
from tests.builders import new_job, params
from tests.chaos.oracle import History, tally
from tests.upgrades.snapshot import LEASE, stored_image


@pytest.fixture
def history(jobs, claims, rescues, tmp_path):
    """Three submits that were answered; each is done, the second one as its second attempt."""
    history = History()
    for seed in (1, 2, 3):
        job = jobs.add(new_job(params=params(seed=seed)), 10)
        history.attempted.add(seed)
        history.accepted[seed] = job.id
        claimed = claims.claim(Lane.GPU, "w1", LEASE)
        if seed == 2:
            rescues.rescue_others(Lane.GPU, "w2")
            claimed = claims.claim(Lane.GPU, "w1", LEASE)
        claim = Claim(job_id=job.id, attempt=claimed.attempt, owner="w1")
        image = stored_image(job, claim, 0)
        path = tmp_path / "media" / image.path
        path.parent.mkdir(parents=True)
        path.write_bytes(image.path.encode())
        claims.succeed(claim, [image], Timings(), [])
    return history


@pytest.fixture
def judge(database, tmp_path, history, clock):
    return lambda: tally(database, tmp_path / "media", history, clock)


def change(database, statement):
    with database.write() as connection:
        connection.execute(statement)


def test_what_went_well_is_clean_and_what_was_saved_is_named(judge, history):
    verdict = judge()
    assert verdict.is_clean
    assert verdict.recovered == [history.accepted[2]]


def test_an_accepted_job_without_a_row_is_lost(judge, history, database):
    change(database, delete(JobRow).where(JobRow.id == history.accepted[1]))
    assert judge().lost == [history.accepted[1]]


def test_a_job_that_never_ends_is_lost(judge, history, database, jobs):
    history.attempted.add(4)
    waiting = jobs.add(new_job(params=params(seed=4)), 10)
    assert judge().lost == [waiting.id]


def test_one_submit_that_became_two_jobs_is_doubled(judge, history, database, jobs):
    again = jobs.request_cancel(jobs.add(new_job(params=params(seed=1)), 10).id)
    assert set(judge().duplicated) == {history.accepted[1], again.id}


def test_a_job_that_ended_twice_is_doubled(judge, history, database):
    with database.read() as connection:
        row = dict(connection.execute(select(*AttemptRow.__table__.columns).limit(1)).one()._mapping)
    change(database, insert(AttemptRow).values({**row, "attempt": 2}))
    assert judge().duplicated == [row["job_id"]]


def test_a_job_that_nobody_sent_is_unexpected(judge, jobs):
    stranger = jobs.request_cancel(jobs.add(new_job(params=params(seed=99)), 10).id)
    assert judge().unexpected == [stranger.id]


def test_an_end_that_no_fault_explains_is_unexpected(judge, history, jobs, claims):
    history.attempted |= {4, 5}
    history.explained[5] = ("numeric_error",)
    failed = []
    for seed in (4, 5):
        job = jobs.add(new_job(params=params(seed=seed)), 10)
        claimed = claims.claim(Lane.GPU, "w1", LEASE)
        claim = Claim(job_id=job.id, attempt=claimed.attempt, owner="w1")
        claims.fail(claim, JobError(code="numeric_error", message="NaN"), Timings())
        failed.append(job.id)
    assert judge().unexpected == failed[:1]


def test_a_broken_promise_is_a_violation(judge, history, database):
    change(database, update(JobRow).where(JobRow.id == history.accepted[3]).values(finished_at=None))
    assert judge().violations == [
        Violation("I3", history.accepted[3], f"{JobStatus.SUCCEEDED}, but its end is not recorded as such")
    ]
