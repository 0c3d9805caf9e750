from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient

from shared.db.engine import open_database
from shared.db.migrate import migrate
from shared.settings import ApiSettings, CoreSettings, OutsideSettings
from tests.broker import serving_broker
from tests.endpoints.server import Server, StandInWorker, serving

OUTSIDE = OutsideSettings.model_fields.keys() - CoreSettings.model_fields.keys()
ServerFactory = Callable[..., Server]


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """A real Valkey, one for the whole run."""
    with serving_broker() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the newest revision, to be copied: migrating anew for each test would be slow."""
    path = tmp_path_factory.mktemp("migrated") / "flux-image.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    database.dispose()
    return path


@pytest.fixture
def start_server(broker_url: str, migrated_database: Path, tmp_path: Path) -> Iterator[ServerFactory]:
    """Start a server with other settings than usual; without ``worker``, none has ever joined."""
    with redis.Redis.from_url(broker_url) as broker:
        broker.flushall()
    with ExitStack() as stack:

        def start(*, worker: bool = True, **settings: object) -> Server:
            data_dir = tmp_path / "data"
            data_dir.mkdir()
            shutil.copy(migrated_database, data_dir)
            values = {"redis_url": broker_url, "log_level": "WARNING", **settings}
            outside = {name: values.pop(name) for name in tuple(values) if name in OUTSIDE}
            kept = OutsideSettings(_env_file=None, data_dir=data_dir, **outside)
            server = stack.enter_context(serving(ApiSettings(_env_file=None, data_dir=data_dir, **values), kept))
            if worker:
                server.worker.join()
            return server

        yield start


@pytest.fixture(scope="module")
def untouched_server(tmp_path_factory: pytest.TempPathFactory, broker_url: str, migrated_database: Path):
    """One server for all tests of a file that leave it as it was: starting one takes longer than asking it."""
    data_dir = tmp_path_factory.mktemp("data")
    shutil.copy(migrated_database, data_dir)
    settings = ApiSettings(_env_file=None, data_dir=data_dir, redis_url=broker_url, log_level="WARNING")
    with serving(settings) as server:
        server.worker.join()
        yield server


@pytest.fixture
def server(start_server: ServerFactory) -> Server:
    return start_server()


@pytest.fixture
def client(server: Server) -> TestClient:
    return server.client


@pytest.fixture
def worker(server: Server) -> StandInWorker:
    return server.worker
