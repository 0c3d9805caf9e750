"""Makes a data directory's database ready before any part of the stack starts, or says why it cannot be."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from shared.db.engine import Database, open_database
from shared.db.migrate import DatabaseUnusable, migrate
from shared.settings import CoreSettings


class DatabaseLost(DatabaseUnusable):
    """There are pictures, but the database that knows them is gone or damaged."""


def prepare_database(settings: CoreSettings) -> None:
    """Check the file and bring it to this version's schema; make it when the data directory is new.

    Raises:
      DatabaseLost: the file is damaged, or missing beside pictures. A new one would know none of them, and they
        would be swept as files that belong to nothing.
      SchemaMismatch: a newer version made the database.
    """
    _refuse_missing(settings)
    database = open_database(settings.resolved_database_url)
    try:
        _refuse_damaged(database)
        migrate(database)
    except OperationalError:
        raise
    except DatabaseError as error:
        raise _damaged(str(error.__cause__ or error)) from error
    finally:
        database.dispose()


def _refuse_missing(settings: CoreSettings) -> None:
    url = make_url(settings.resolved_database_url)
    if url.get_backend_name() != "sqlite" or not url.database or Path(url.database).exists():
        return
    if settings.media_dir.is_dir() and any(settings.media_dir.iterdir()):
        raise DatabaseLost(
            f"{settings.media_dir} holds pictures, but there is no database at {url.database}. Put the database back, "
            "or restore a backup into an empty data directory with `flux-image restore`."
        )


def _refuse_damaged(database: Database) -> None:
    if database.engine.dialect.name != "sqlite":
        return
    with database.read() as connection:
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    if found != "ok":
        raise _damaged(found)


def _damaged(reason: str) -> DatabaseLost:
    return DatabaseLost(
        f"The database is damaged ({reason}). Move it away and restore a backup with `flux-image restore`."
    )
