import pytest

from tests.stack import RunningStack


@pytest.fixture(scope="package")
def stack(tmp_path_factory):
    """One real stack for all tests that only submit jobs to it."""
    with RunningStack(tmp_path_factory.mktemp("stack") / "data") as running:
        yield running
        running.stop()


@pytest.fixture
def client(stack):
    with stack.client() as client:
        yield client
