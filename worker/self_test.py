"""A worker in doubt shows that it works before it claims, so that jobs do not pay for its troubles.

In doubt is a part that has just failed: the device after crashes in a row, the disk after a picture that could not be
written. While a test fails nothing is claimed, and the jobs wait without losing a try.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 300.0

Clock = Callable[[], float]


class SelfTest:
    """Runs the named tests of the parts that are in doubt. A test raises an exception when its part does not work."""

    def __init__(self, tests: Mapping[str, Callable[[], None]], clock: Clock = time.monotonic) -> None:
        self._tests = tests
        self._clock = clock
        self._in_doubt: set[str] = set()
        self._trouble: str | None = None
        self._next_try = 0.0
        self._pause = _FIRST_PAUSE_SECONDS

    def doubt(self, part: str) -> None:
        """Test this part before the next claim."""
        self._in_doubt.add(part)

    def trouble(self) -> str | None:
        """Return what does not work, or ``None``; test again if the pause since the last failure is over."""
        if self._in_doubt and self._clock() >= self._next_try:
            self._trouble = self._test()
        return self._trouble

    def _test(self) -> str | None:
        for part in sorted(self._in_doubt):
            try:
                self._tests[part]()
            except Exception as error:  # whatever it is, it would have hit a job
                log.exception("self-test failed", action="self_test_failed", part=part)
                self._next_try = self._clock() + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
                return f"{part}: {error}"
            log.info("self-test passed", action="self_test_passed", part=part)
            self._in_doubt.discard(part)
        self._pause = _FIRST_PAUSE_SECONDS
        return None
