"""A runner on a real database, storage and broker."""

from datetime import timedelta

import pytest

from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.db.jobs import JobRepository
from shared.db.rescues import RescueRepository
from shared.domain.job import Lane
from shared.storage.local import LocalMediaStorage
from tests.broker import serving_broker
from tests.contract.scripted import ScriptedGenerator
from worker.runner import Runner, RunnerLimits
from worker.shutdown import Shutdown

LEASE = timedelta(seconds=30)


@pytest.fixture(scope="module")
def broker_url():
    with serving_broker() as url:
        yield url


@pytest.fixture
def jobs(database):
    return JobRepository(database)


@pytest.fixture
def claims(database):
    return ClaimRepository(database)


@pytest.fixture
def rescues(database):
    return RescueRepository(database)


@pytest.fixture
def channel(broker_url):
    channel = ProgressChannel(broker_url)
    yield channel
    channel.close()


@pytest.fixture
def storage(tmp_path):
    return LocalMediaStorage(tmp_path / "media")


@pytest.fixture
def make_runner(claims, storage, channel):
    made = []

    def make(script, **changes):
        limits = RunnerLimits(LEASE, heartbeat_seconds=0.02)
        values = {
            "owner": "w1",
            "lane": Lane.GPU,
            "generator": ScriptedGenerator(script),
            "claims": claims,
            "storage": storage,
            "channel": channel,
            "limits": limits,
            "shutdown": Shutdown(),
            **changes,
        }
        made.append(Runner(**values))
        return made[-1]

    yield make
    for runner in made:
        runner.close()
