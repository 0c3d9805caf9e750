import os

import hypothesis
import pytest

from shared.db.engine import open_database
from shared.db.migrate import migrate
from tests.surroundings import DEAD_PROXIES

# Whatever a developer's own server is told must not steer the tests, and none needs a way out of this machine.
STEERING = ("FLUX_", "REDIS_URL", "FORCE_COLOR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
KEPT = "FLUX_SHARED_TOOLS"  # says where a test finds a tool; the server knows no such setting
for name in [name for name in os.environ if name.upper().startswith(STEERING) and name != KEPT]:
    del os.environ[name]

# An example that a busy machine interrupts is no failure. The suite is the same every time; to look for rarer
# cases, run the properties with `--hypothesis-profile=search`.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "search", hypothesis.settings.get_profile("suite"), derandomize=False, max_examples=2000
)
hypothesis.settings.load_profile("suite")


@pytest.fixture
def dead_proxies(monkeypatch):
    """An environment that sends everything through proxies which do not exist."""
    for name, value in DEAD_PROXIES.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def database(tmp_path):
    """A migrated SQLite on disk."""
    database = open_database(f"sqlite:///{tmp_path / 'flux.db'}")
    migrate(database)
    yield database
    database.dispose()
