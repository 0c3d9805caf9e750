"""The application ends only when all that ran beside its requests has ended."""

import asyncio

from structlog.testing import capture_logs

from api import background
from api.background import running


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


def test_a_part_that_died_is_told():
    async def main():
        async with running([Dying()]):
            await asyncio.sleep(0.01)

    with capture_logs() as logs:
        asyncio.run(main())
    assert ["no disk" in line["error"] for line in logs] == [True]
