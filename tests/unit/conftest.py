import pytest

from shared.db.claims import ClaimRepository
from shared.db.jobs import JobRepository
from shared.db.queue import QueueRepository
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
