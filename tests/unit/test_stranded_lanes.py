"""When a lane counts as served by nobody."""

from datetime import timedelta

import pytest

from api.services.stranded import PATIENCE, StrandedLanes
from shared.db.stranded import StrandedRepository
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.domain.route import Generator, GeneratorChoice, Leg, Route
from tests.builders import new_job

SIDES = (Leg(generator=Generator.LOCAL, model="demo"), Leg(generator=Generator.REMOTE, model="schnell"))
FALLBACK = Route(legs=(SIDES[0].model_copy(update={"count": 1}),), alternatives=SIDES)


class Rings(list):
    """A doorbell that remembers."""

    def ring(self, job_id, kind, lane):
        self.append((job_id, lane))


@pytest.fixture
def workers(database, clock):
    return WorkerRepository(database, clock)


@pytest.fixture
def rings():
    return Rings()


@pytest.fixture
def lanes(database, workers, rings, clock):
    return StrandedLanes(StrandedRepository(database, clock), workers, rings, clock)


@pytest.fixture
def waiting(jobs):
    return jobs.add(new_job(route=FALLBACK, generator=GeneratorChoice.FALLBACK), 10)


def join(workers, lane):
    workers.register(f"wrk_{lane}", lane, "host", 1, heartbeat_seconds=5)
    workers.beat(f"wrk_{lane}", WorkerState.IDLE)


def test_a_job_whose_lane_is_dead_is_rung_for_in_the_other_one(lanes, workers, rings, jobs, waiting, clock):
    # Given a GPU worker that fell silent, and a live remote one
    join(workers, Lane.GPU)
    clock.now += PATIENCE + timedelta(seconds=1)
    join(workers, Lane.REMOTE)
    # When the reconciler looks
    lanes.move_on()
    # Then the other side has the job
    assert rings == [(waiting.id, Lane.REMOTE)]
    assert "no worker of the gpu lane has been running for 60 s" in jobs.get(waiting.id).warnings[0]


def test_a_restart_is_not_mistaken_for_the_end(lanes, workers, rings, waiting, clock):
    join(workers, Lane.GPU)
    join(workers, Lane.REMOTE)
    clock.now += PATIENCE - timedelta(seconds=1)
    lanes.move_on()
    assert rings == []


def test_after_a_start_of_everything_workers_get_time_to_come(database, workers, rings, waiting, clock):
    # Given a job that waited for a day while everything was off
    clock.now += timedelta(days=1)
    join(workers, Lane.REMOTE)
    # When the API has just started
    StrandedLanes(StrandedRepository(database, clock), workers, rings, clock).move_on()
    # Then nothing is moved
    assert rings == []
