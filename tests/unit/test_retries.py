"""When a failed attempt is tried again."""

from datetime import timedelta

import pytest

from shared.db.claims import ClaimRepository
from shared.db.jobs import JobRepository
from shared.domain.job import JobError, Lane
from tests.builders import new_job
from worker.retries import retry_pause


@pytest.fixture
def job(database):
    """A job in its first attempt."""
    JobRepository(database).add(new_job(), 10)
    return ClaimRepository(database).claim(Lane.GPU, "w1", timedelta(seconds=30))


def error(**changes):
    return JobError(**{"code": "remote_unavailable", "message": "away", "retryable": True, **changes})


def test_a_final_error_is_not_tried_again(job):
    assert retry_pause(job, error(retryable=False, retry_after_seconds=60), 3) is None


def test_pauses_grow_from_five_seconds(job):
    assert 4 <= retry_pause(job, error(), 3).total_seconds() <= 6
    assert retry_pause(job, error(), 1) is None


@pytest.mark.parametrize("asked", [1, 60, 36_000])
def test_a_stated_wait_is_kept_to_and_not_stretched_much(job, asked):
    pauses = [retry_pause(job, error(retry_after_seconds=asked), 1).total_seconds() for _ in range(50)]
    assert asked <= min(pauses)
    assert max(pauses) <= asked + min(30, 0.2 * asked)


def test_stated_waits_grow_with_the_time_waited_and_end_after_a_day(job):
    # Given a Space that says for ever that it will be there in a minute
    now, pauses = job.attempts[0].started_at, []
    while pause := retry_pause(job, error(retry_after_seconds=60), 1, now):
        pauses.append(pause)
        now += pause
    # Then it is asked soon at first, and all in all not too often
    assert pauses[0].total_seconds() < 80
    assert 24 <= (now - job.attempts[0].started_at).total_seconds() / 3600 < 27
    assert len(pauses) < 100
