import pytest

from shared.db.engine import open_database
from shared.db.migrate import SchemaMismatch, check_schema, migrate, schema_drift


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
