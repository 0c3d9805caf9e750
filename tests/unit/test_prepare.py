"""A database that this version cannot use is refused in words, by whoever meets it first, and left as it is."""

import subprocess
import sys

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.main import create_app
from shared.db.engine import open_database
from shared.db.migrate import SchemaMismatch, check_schema, migrate
from shared.db.prepare import DatabaseLost, prepare_database
from shared.settings import ApiSettings, CoreSettings, WorkerSettings
from worker.build import GpuWorker


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def settings(data_dir):
    return CoreSettings(_env_file=None, data_dir=data_dir)


@pytest.fixture
def of_the_future(settings):
    """A database that a newer version made."""
    prepare_database(settings)
    database = open_database(settings.resolved_database_url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '2099_01_01_unheard_of'"))
    database.dispose()
    return settings


def command(*words, data_dir):
    return subprocess.run(
        [sys.executable, "-m", "cli", *words, "--data-dir", str(data_dir)], capture_output=True, text=True, timeout=60
    )


def test_a_new_data_directory_gets_a_database(settings):
    prepare_database(settings)
    database = open_database(settings.resolved_database_url)
    check_schema(database)
    database.dispose()


class TestNewerVersion:
    def test_the_api_refuses_to_start(self, of_the_future, data_dir):
        app = create_app(ApiSettings(_env_file=None, data_dir=data_dir))
        with pytest.raises(SchemaMismatch, match="A newer version made it"), TestClient(app):
            pass

    def test_the_worker_refuses_to_start(self, of_the_future, data_dir):
        worker = GpuWorker(WorkerSettings(_env_file=None, data_dir=data_dir), lambda: None)
        with pytest.raises(SchemaMismatch, match="2099_01_01_unheard_of"):
            worker.start()
        worker.close()

    @pytest.mark.parametrize("words", [("migrate",), ("up", "--port", "0", "--no-flower")])
    def test_commands_say_so_without_a_traceback(self, of_the_future, data_dir, words):
        refused = command(*words, data_dir=data_dir)
        assert refused.returncode == 4
        assert "A newer version made it: start that version" in refused.stderr
        assert "Traceback" not in refused.stderr

    def test_it_stays_as_it_is(self, of_the_future):
        database = open_database(of_the_future.resolved_database_url)
        with pytest.raises(SchemaMismatch):
            migrate(database)
        with database.read() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "2099_01_01_unheard_of"
        database.dispose()


class TestLoss:
    def test_pictures_without_their_database_are_not_given_a_new_one(self, settings):
        (settings.media_dir / "job_1").mkdir(parents=True)
        with pytest.raises(DatabaseLost, match="flux-image restore"):
            prepare_database(settings)
        assert not (settings.data_dir / "flux-image.db").exists()

    @pytest.mark.parametrize("damage", ["overwritten", "torn"])
    def test_a_damaged_file_is_refused(self, settings, damage):
        prepare_database(settings)
        path = settings.data_dir / "flux-image.db"
        content = path.read_bytes()
        path.write_bytes(b"no database" * 1000 if damage == "overwritten" else content[: len(content) // 2])
        with pytest.raises(DatabaseLost, match="damaged"):
            prepare_database(settings)

    def test_up_says_so(self, settings, data_dir):
        data_dir.mkdir()
        (data_dir / "flux-image.db").write_bytes(b"no database" * 1000)
        refused = command("up", "--port", "0", "--no-flower", data_dir=data_dir)
        assert (refused.returncode, "restore a backup" in refused.stderr) == (4, True)
