"""`flux-image migrate`."""

from __future__ import annotations

import sys
from typing import Final

from shared.db.migrate import DatabaseUnusable, head_revision
from shared.db.prepare import prepare_database
from shared.settings import CoreSettings

EXIT_DATABASE: Final = 4


def run_migrate(settings: CoreSettings) -> int:
    """Upgrade the database, say where it stands, and return the exit code."""
    try:
        prepare_database(settings)
    except DatabaseUnusable as error:
        print(error, file=sys.stderr)
        return EXIT_DATABASE
    print(f"The database is at schema revision {head_revision()}.")
    return 0
