import pytest

from shared.db.claims import ClaimRepository
from shared.db.jobs import JobRepository
from shared.db.queue import QueueRepository
from shared.db.rescues import RescueRepository
from shared.db.rings import RingRepository
from tests.builders import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def jobs(database, clock):
    return JobRepository(database, clock)


@pytest.fixture
def claims(database, clock):
    return ClaimRepository(database, clock)


@pytest.fixture
def queue(database, clock):
    return QueueRepository(database, clock)


@pytest.fixture
def rescues(database, clock):
    return RescueRepository(database, clock)


@pytest.fixture
def rings(database, clock):
    return RingRepository(database, clock)
