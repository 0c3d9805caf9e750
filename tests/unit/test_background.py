"""The application ends only when all that ran beside its requests has ended."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from api import background
from api.background import in_thread, running


class Stubborn:
    """Loses its first cancel, as Python 3.11's ``wait_for`` may."""

    def __init__(self):
        self.cancels, self.ended = 0, False

    async def run(self):
        while self.cancels < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancels += 1
        self.ended = True


class Dying:
    async def run(self):
        raise ValueError("no disk")


def test_a_part_that_loses_a_cancel_is_cancelled_again(monkeypatch):
    monkeypatch.setattr(background, "PATIENCE_SECONDS", 0.01)
    part = Stubborn()

    async def main():
        async with running([part]):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert (part.cancels, part.ended) == (2, True)


@pytest.mark.parametrize("fails", [False, True])
def test_work_in_a_thread_has_ended_when_its_part_has(monkeypatch, fails):
    # Given a part whose thread is at work
    monkeypatch.setattr(background, "PATIENCE_SECONDS", 0.01)
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        assert goes_on.wait(60)
        ended.set()
        if fails:
            raise ValueError("the database is away")

    class Working:
        async def run(self):
            await in_thread(work)

    async def main():
        async with running([Working()]):
            await asyncio.to_thread(begun.wait, 60)
            # When the application ends meanwhile, long before the thread can
            asyncio.get_running_loop().call_later(0.1, goes_on.set)
        # Then it has waited for it
        assert ended.is_set()

    asyncio.run(main())


def test_work_in_a_thread_returns_and_raises():
    async def main():
        assert await in_thread(int, "7", base=8) == 7
        with pytest.raises(ValueError, match="invalid literal"):
            await in_thread(int, "x")

    asyncio.run(main())


def test_a_part_that_died_is_told():
    async def main():
        async with running([Dying()]):
            await asyncio.sleep(0.01)

    with capture_logs() as logs:
        asyncio.run(main())
    assert ["no disk" in line["error"] for line in logs] == [True]
