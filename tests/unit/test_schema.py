import pytest
from alembic import command
from sqlalchemy import text

from shared.db.audit import audit
from shared.db.engine import open_database
from shared.db.jobs import JobRepository
from shared.db.migrate import SchemaMismatch, alembic_config, check_schema, migrate, schema_drift
from shared.domain.route import simple_route
from tests.builders import params


def test_migrations_and_models_agree(database):
    assert schema_drift(database) == []


def test_migrating_twice_changes_nothing(database):
    migrate(database)
    check_schema(database)


def test_a_database_of_another_revision_is_refused_in_words(tmp_path):
    empty = open_database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(SchemaMismatch, match="flux-image migrate"):
        check_schema(empty)
    empty.dispose()


def test_sqlite_has_the_wal_fix(database):
    with database.read() as connection:
        version = connection.exec_driver_sql("SELECT sqlite_version()").scalar()
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert tuple(map(int, version.split("."))) >= (3, 51, 3)


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_accepted_jobs_are_synced_and_heartbeats_need_not_be(database, durable, level):
    with database.write(durable=durable) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level


def test_jobs_of_the_first_version_get_the_route_they_took(tmp_path):
    # Given a waiting job of two pictures, written by the first version
    old = open_database(f"sqlite:///{tmp_path / 'old.db'}")
    with old.write() as connection:
        command.upgrade(alembic_config(connection), "2026_11_21_initial")
        columns = {
            "id": "job_1", "kind": "generate", "status": "queued", "status_seq": 1, "lane": "gpu", "job_class": 1,
            "priority": 0, "model": "demo", "generator": "local", "warnings": "[]", "attempt": 0, "crashes": 0,
            "held": 0, "errors": 0, "created_at": "2026-11-21 12:00:00.000000",
            "params": params(num_images=2).model_dump_json(),
        }  # fmt: skip
        names = ", ".join(columns)
        placeholders = ", ".join(f":{name}" for name in columns)
        connection.execute(text(f"INSERT INTO jobs ({names}) VALUES ({placeholders})"), columns)
    # When this version takes over
    migrate(old)
    # Then the job waits for the same generator as before
    job = JobRepository(old).get("job_1")
    assert job.route == simple_route("demo", 2)
    assert audit(old, tmp_path) == []
    old.dispose()
