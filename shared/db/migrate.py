"""Brings a database to the schema of this version, and tells when it is at another one."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from shared.db.engine import Database
from shared.db.models import Base


class DatabaseUnusable(RuntimeError):
    """This version cannot work with the database as it is; the message says what to do."""


class SchemaMismatch(DatabaseUnusable):
    """The database is not at the revision this version works with."""


def migrate(database: Database) -> None:
    """Upgrade to the newest revision, all in one write transaction.

    Raises:
      SchemaMismatch: a newer version made this database; nothing was changed.
      BrokenReference: rows would refer to nothing afterwards; nothing was changed.
    """
    with database.rebuild() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in _known_revisions():
            raise SchemaMismatch(_mismatch(found))
        command.upgrade(_config(connection), "head")


def check_schema(database: Database) -> None:
    """Return if the database is at this version's revision.

    Raises:
      SchemaMismatch: it is older, newer or empty; the message says what to do.
    """
    with database.read() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != head_revision():
        raise SchemaMismatch(_mismatch(found))


def head_revision() -> str | None:
    """Return the newest revision this version knows."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def _known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}


def _mismatch(found: str | None) -> str:
    remedy = (
        "Run `flux-image migrate` (after a backup)."
        if found is None or found in _known_revisions()
        else "A newer version made it: start that version, or restore a backup of this one into another data directory."
    )
    return f"The database is at schema revision {found or 'none'}, this version needs {head_revision()}. {remedy}"


def schema_drift(database: Database) -> list[object]:
    """Return the differences between the migrated database and the models; empty when they agree."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def _config(connection: Connection | None) -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))  # the values of its files are templates
    config.attributes["connection"] = connection
    return config
