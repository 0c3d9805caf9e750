from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.rig import Rig, running_rig


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One stack for all faults of a file: its history grows, and every verdict is about all of it."""
    with running_rig(tmp_path_factory.mktemp("rig") / "data") as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Iterator[Rig]:
    """The shared stack, whole at the start of a test and at its end, and with a clean verdict."""
    yield shared_rig
    shared_rig.points.disarm_all()
    for part in (shared_rig.api, shared_rig.worker):
        if not part.is_alive:
            part.start()
    shared_rig.wait_until_ready()
    verdict = shared_rig.settle()
    assert verdict.is_clean, (verdict, shared_rig.logs())
