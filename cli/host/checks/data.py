"""Disk, database, schema and, on request, the invariants over all jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from cli.host.checks.disk import free_gigabytes
from cli.host.checks.finding import Finding, note, ok, problem
from shared.db.audit import audit
from shared.db.engine import Database
from shared.db.migrate import SchemaMismatch, check_schema
from shared.settings import ApiSettings, CoreSettings

_ENOUGH_GIGABYTES: Final = 5.0
_FIRST_SAFE_SQLITE: Final = (3, 51, 3)


def check(settings: CoreSettings) -> Iterator[Finding]:
    """Yield what was found about the data directory and the database in it."""
    yield _judge_room(settings)
    if settings.database_url is None and not (settings.data_dir / "flux-image.db").exists():
        yield note("no database yet; `flux-image up` makes one")
        return
    database = Database(settings.resolved_database_url)
    try:
        yield from _check_database(database)
    except SQLAlchemyError as error:
        yield problem(f"the database cannot be read: {error.__cause__ or error}")
    finally:
        database.dispose()


def _judge_room(settings: CoreSettings) -> Finding:
    """Measure where pictures go, as the API does, and against the limit below which it takes no jobs."""
    free = free_gigabytes(settings.media_dir)
    text = f"{settings.media_dir}: {free:.1f} GB free"
    limit = ApiSettings(data_dir=settings.data_dir).min_free_bytes / 1e9
    if free < limit:
        return problem(f"{text}; no job is accepted below {limit:.1f} GB (FLUX_MIN_FREE_BYTES), make room")
    return ok(text) if free >= _ENOUGH_GIGABYTES else problem(f"{text}; pictures will soon not fit, make room")


def check_invariants(settings: CoreSettings) -> Iterator[Finding]:
    """Yield every violation of the lifecycle's invariants; the server may run meanwhile."""
    database = Database(settings.resolved_database_url)
    try:
        violations = audit(database, settings.media_dir)
    except SQLAlchemyError as error:
        yield problem(f"the database cannot be audited: {error.__cause__ or error}")
        return
    finally:
        database.dispose()
    for violation in violations:
        yield problem(f"{violation.invariant} {violation.subject}: {violation.message}")
    if not violations:
        yield ok("every job and every picture is as promised")


def _check_database(database: Database) -> Iterator[Finding]:
    if database.engine.dialect.name == "sqlite":
        with database.read() as connection:
            version = str(connection.exec_driver_sql("SELECT sqlite_version()").scalar_one())
            integrity = str(connection.exec_driver_sql("PRAGMA quick_check").scalar_one())
        safe = tuple(map(int, version.split("."))) >= _FIRST_SAFE_SQLITE
        yield (
            ok(f"SQLite {version}")
            if safe
            else problem(f"SQLite {version} can corrupt a WAL; 3.51.3 or newer is needed")
        )
        yield (
            ok("the database file is sound") if integrity == "ok" else problem(f"the database is damaged: {integrity}")
        )
    try:
        check_schema(database)
        yield ok("the schema is this version's")
    except SchemaMismatch as error:
        yield problem(str(error))
