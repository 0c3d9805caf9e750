import pytest

from shared.db.engine import open_database
from shared.db.migrate import migrate


@pytest.fixture
def database(tmp_path):
    """A migrated SQLite on disk."""
    database = open_database(f"sqlite:///{tmp_path / 'flux.db'}")
    migrate(database)
    yield database
    database.dispose()
