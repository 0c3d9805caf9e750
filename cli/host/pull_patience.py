"""How long `flux-image pull` bears with a server: which errors may go away, and when the next try comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from cli.host.pull_refusals import retry_after_seconds

_MAY_GO_AWAY: Final = (408, 429, 500, 502, 503, 504)

T = TypeVar("T")


class Stopped(Exception):
    """Another file failed, or the user pressed Ctrl+C."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to bear with a server."""

    silence_seconds: float = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    """Longest wait for the next byte; three times as long may be slower than ten kB a second."""
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Before each further try; a byte that came in between makes it the first one again."""
    longest_wait_seconds: float = 300.0
    """A server that asks for more (Retry-After) is left alone; the hub's window for its limits is five minutes."""
    stop: threading.Event = field(default_factory=threading.Event)

    def insist(self, work: Callable[[], T], say: Callable[[str], None], position: Callable[[], int] = lambda: 0) -> T:
        """Return what ``work`` returns, tried again after errors that may go away.

        Raises: the last error, when as many tries as there are pauses gained no byte; ``Stopped``.
        """
        failures, reached = 0, position()
        while True:
            try:
                return work()
            except (httpx2.TransportError, HfHubHTTPError) as error:
                if position() > reached:
                    failures, reached = 0, position()
                pause = self._pause(error, failures)
                if pause is None:
                    raise
                failures += 1
                say(f"{_reason(error)}; going on in {pause:g} s")
            if self.stop.wait(pause):
                raise Stopped

    def _pause(self, error: Exception, failures: int) -> float | None:
        """Return the seconds until the next try; ``None`` where there is none."""
        if failures >= len(self.pauses):
            return None
        pause = self.pauses[failures]
        if isinstance(error, HfHubHTTPError):
            wished = retry_after_seconds(error) or 0
            if error.response.status_code not in _MAY_GO_AWAY or wished > self.longest_wait_seconds:
                return None
            return max(pause, wished)
        return None if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError) else pause


def _reason(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"{error.response.url.host} answers {error.response.status_code}"
    return f"the connection failed ({type(error).__name__})"
