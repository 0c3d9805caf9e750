import pytest

from tests.space.harness import SpaceServer


@pytest.fixture(scope="session")
def space_server(tmp_path_factory):
    with SpaceServer(tmp_path_factory.mktemp("spaces")) as server:
        yield server


@pytest.fixture
def spaces(space_server):
    """The running Spaces; every call that still waits is let go after the test."""
    yield space_server
    space_server.reset()
