"""Settings that only make sense together are refused together, in the names of both."""

import pytest
from pydantic import ValidationError

from shared.settings import WorkerSettings


@pytest.mark.parametrize(
    ("lease", "heartbeat"), [(30, 60), (30, 10.1), (14.9, 5), (1, 5)], ids=lambda seconds: f"{seconds:g}"
)
def test_a_lease_that_ends_between_heartbeats_is_refused(lease, heartbeat):
    with pytest.raises(ValidationError) as refused:
        WorkerSettings(lease_seconds=lease, heartbeat_seconds=heartbeat)
    words = str(refused.value)
    assert "FLUX_LEASE_SECONDS" in words
    assert f"FLUX_HEARTBEAT_SECONDS={heartbeat:g}" in words
    assert f"at least {3 * heartbeat:g}" in words


@pytest.mark.parametrize(("lease", "heartbeat"), [(30, 5), (15, 5), (180, 60)])
def test_three_heartbeats_are_enough(lease, heartbeat):
    assert WorkerSettings(lease_seconds=lease, heartbeat_seconds=heartbeat).lease_seconds == lease
