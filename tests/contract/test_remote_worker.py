"""How a worker of the remote lane starts: with what speaks to a Space, or with the reason why it cannot."""

import sys

import pytest

from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.settings import OutsideSettings, WorkerSettings
from worker import remote
from worker.engine_start import EngineFailed
from worker.remote import RemoteWorker
from worker.shutdown import Shutdown


@pytest.fixture
def worker(database, broker_url, tmp_path):
    settings = WorkerSettings(
        _env_file=None, data_dir=tmp_path, database_url=str(database.engine.url), redis_url=broker_url
    )
    outside = OutsideSettings(_env_file=None, data_dir=tmp_path, remote_space="black-forest-labs/FLUX.1-schnell")
    worker = RemoteWorker(settings, outside, Shutdown())
    yield worker
    worker.close()


def test_it_says_what_is_configured_and_asks_nobody(worker, database):
    worker.start()
    row = WorkerRepository(database).latest(Lane.REMOTE)
    assert row.state is WorkerState.IDLE
    assert row.report["space"]["learned_at"] is None
    assert worker.run_next() == "nothing to do"


def test_a_client_that_cannot_be_imported_is_said_in_its_row(worker, database, monkeypatch):
    # Given a gradio_client that is not there
    monkeypatch.setitem(sys.modules, "worker.generators.flux_client", None)
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.01)
    # When the worker starts
    with pytest.raises(EngineFailed):
        worker.start()
    # Then its row says so
    row = WorkerRepository(database).latest(Lane.REMOTE)
    assert row.state is WorkerState.UNHEALTHY
    assert "worker.generators.flux_client" in row.trouble
