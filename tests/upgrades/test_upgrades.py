"""A database of each released version, with jobs in it, becomes one of this version and loses nothing."""

import sqlite3
from datetime import timedelta

import pytest
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import IntegrityError

from shared.db.audit import audit
from shared.db.claims import ClaimRepository
from shared.db.engine import BrokenReference, open_database
from shared.db.jobs import JobFilter, JobRepository
from shared.db.migrate import SchemaMismatch, check_schema, head_revision, migrate, schema_drift
from shared.db.models import IdempotencyRow
from shared.db.queue import QueueRepository
from shared.db.rescues import RescueRepository
from shared.domain.job import IdempotencyKey, Lane
from shared.domain.status import JobStatus
from shared.storage.local import LocalMediaStorage
from tests.builders import new_job
from tests.upgrades.snapshot import RELEASED

VERSIONS = sorted(path.stem for path in RELEASED.glob("*.sql"))
OLDER = [version for version in VERSIONS if version != head_revision()]


def contents(database):
    """Every row of every table, by table and column name."""
    with database.read() as connection:
        tables = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
        return {
            name: [dict(row._mapping) for row in connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY 1, 2")]
            for name in tables
        }


@pytest.fixture(params=VERSIONS)
def released(request, tmp_path):
    """A database as that version left it, with the pictures that its rows name."""
    path = tmp_path / "flux-image.db"
    connection = sqlite3.connect(path)
    connection.executescript((RELEASED / f"{request.param}.sql").read_text())
    storage = LocalMediaStorage(tmp_path / "media")
    for table in ("images", "job_inputs"):
        for (key,) in connection.execute(f"SELECT path FROM {table}"):
            storage.put(key, key.encode())
    connection.close()
    database = open_database(f"sqlite:///{path}")
    yield database
    database.dispose()


def test_the_first_release_is_among_them():
    assert "2026_11_21_initial" in VERSIONS


def test_an_upgrade_keeps_every_row_and_value(released):
    before = contents(released)
    assert {row["status"] for row in before["jobs"]} == set(JobStatus)
    assert all(before.values()), "every table of that version has rows"
    migrate(released)
    after = contents(released)
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert kept == rows, table


def test_an_upgraded_database_has_this_versions_schema_and_keeps_its_promises(released, tmp_path):
    migrate(released)
    check_schema(released)
    assert schema_drift(released) == []
    # And after the rescue that a worker of the new version starts with, every promise holds
    RescueRepository(released).rescue_others(Lane.GPU, "wrk_new")
    assert audit(released, tmp_path / "media") == []


def test_constraints_hold_after_an_upgrade(released):
    migrate(released)
    for wrong in (
        "UPDATE jobs SET status = 'running', owner = NULL",
        "UPDATE jobs SET status = 'asleep'",
        "UPDATE jobs SET residency = NULL",
        "INSERT INTO attempts (job_id, attempt, owner, started_at) VALUES ('job_nobody', 1, 'w', '2026-11-21')",
    ):
        with pytest.raises(IntegrityError), released.write() as connection:
            connection.exec_driver_sql(wrong)


def test_an_upgraded_queue_goes_on(released):
    migrate(released)
    # Given the released version's time, in which its key is still known
    with released.read() as connection:
        now = connection.scalar(select(func.max(IdempotencyRow.created_at)))
    jobs, claims, queue = (part(released, lambda: now) for part in (JobRepository, ClaimRepository, QueueRepository))
    known = IdempotencyKey(key="released", body_sha256="a" * 64)
    waiting = jobs.add_once(new_job(), 100, known)
    held = [job for job in jobs.page(JobFilter((JobStatus.QUEUED,)), 50, None).jobs if job.held]
    # Then the key stands for its job, which is claimed, and a held one can be let go
    assert waiting.model == "schnell"
    assert claims.claim(Lane.GPU, "wrk_new", timedelta(seconds=30), {"demo"}).id == waiting.id
    assert not queue.unhold(held[0].id).held


@pytest.mark.parametrize("released", OLDER, indirect=True)
def test_rows_that_would_refer_to_nothing_stop_an_upgrade_and_change_nothing(released):
    with released.engine.connect() as connection:
        driver = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")
        row = {"job_id": "gone", "attempt": 1, "owner": "w", "started_at": "2026", "lane": "gpu"}
        known = [name for _, name, *_ in driver.execute("PRAGMA table_info(attempts)") if name in row]
        marks = ", ".join("?" * len(known))
        driver.execute(f"INSERT INTO attempts ({', '.join(known)}) VALUES ({marks})", [row[name] for name in known])
        driver.execute("PRAGMA foreign_keys=ON")
    before = contents(released)
    with pytest.raises(BrokenReference, match="refer to rows that are gone"):
        migrate(released)
    assert contents(released) == before
    with pytest.raises(SchemaMismatch):
        check_schema(released)
