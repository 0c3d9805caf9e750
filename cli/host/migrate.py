"""`flux-image migrate`."""

from __future__ import annotations

from shared.db.engine import open_database
from shared.db.migrate import head_revision, migrate
from shared.settings import CoreSettings


def run_migrate(settings: CoreSettings) -> None:
    """Upgrade the database and say where it stands."""
    database = open_database(settings.resolved_database_url)
    migrate(database)
    database.dispose()
    print(f"The database is at schema revision {head_revision()}.")
