"""Files from the hub to the disk, over as many connections as it takes.

A try asks for what is missing (Range, RFC 9110, section 14). Plain HTTP only, which the hub speaks for every file below
50 GB: Xet's client may be faster, but cannot go on within a file. It need not be installed.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from cli.host.pull_listing import RemoteFile
from cli.host.pull_partial import PartialFile, contradiction, is_here
from cli.host.pull_patience import Patience, Stopped
from cli.host.pull_progress import PullProgress, amount
from cli.host.pull_refusals import KEPT, PullRefused

_SLOWEST_BYTES_PER_SECOND: Final = 10_000
"""At this rate a FLUX model takes more than a month."""


class Transfer:
    """Fetches files of one repository at one commit."""

    def __init__(
        self, repo_id: str, commit: str, token: str | None, patience: Patience, progress: PullProgress
    ) -> None:
        self._repo_id = repo_id
        self._commit = commit
        # A redirect to another origin loses the authorization (httpx2), so the CDN never sees the token.
        self._headers = {**build_hf_headers(token=token or False), "Accept-Encoding": "identity"}
        self._patience = patience
        self._progress = progress

    def fetch(self, file: RemoteFile, blob: Path) -> None:
        """Return when the file is in its place; what is there already is not asked for again.

        Raises:
          PullRefused: the server is too slow, or sends something else than it lists.
          HfHubHTTPError, httpx2.TransportError: it refuses or fails for good.
          OSError: the disk does.
        """
        if is_here(blob, file):
            self._progress.add(file.size)
            return
        with PartialFile(blob, file, self._progress) as partial:
            if not partial.is_complete:
                self._patience.insist(lambda: self._receive(file, partial), self._progress.say, lambda: partial.size)
            partial.publish()

    def _receive(self, file: RemoteFile, partial: PartialFile) -> None:
        """Receive what is missing over one connection."""
        url = hf_hub_url(self._repo_id, file.path, revision=self._commit)
        headers = {**self._headers, "Range": f"bytes={partial.size}-"} if partial.size else self._headers
        timeout = self._patience.silence_seconds
        with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as answer:
            if answer.is_error:
                answer.read()
            hf_raise_for_status(answer)
            if partial.size and answer.status_code == httpx2.codes.OK:
                partial.restart()
            if announced := _mismatch(answer, partial.size, file.size):
                raise contradiction(file, announced)
            pace = _Pace(3 * timeout)
            for chunk in answer.iter_raw():
                if self._patience.stop.is_set():
                    raise Stopped
                partial.write(chunk)
                pace.received(len(chunk))
        if not partial.is_complete:
            raise httpx2.RemoteProtocolError("the connection was closed before the end of the file")


class _Pace:
    """Notices a server that sends next to nothing."""

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._since, self._count = time.monotonic(), 0

    def received(self, count: int) -> None:
        self._count += count
        seconds = time.monotonic() - self._since
        if seconds < self._window_seconds:
            return
        if self._count < _SLOWEST_BYTES_PER_SECOND * seconds:
            raise PullRefused(
                f"{constants.ENDPOINT} is too slow: {amount(self._count)} in {seconds:.0f} s. Try again later, or "
                f"another mirror (HF_ENDPOINT). {KEPT}"
            )
        self._since, self._count = time.monotonic(), 0


def _mismatch(answer: httpx2.Response, start: int, size: int) -> str | None:
    """Return what an answer announces, in words, where it is not the rest of a file of ``size`` bytes."""
    if answer.status_code == httpx2.codes.PARTIAL_CONTENT:
        wanted = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if wanted is None or (int(wanted[1]), int(wanted[2])) != (start, size):
            return f"the rest from byte {start} is announced as {answer.headers.get('Content-Range')!r}"
        return None
    length = answer.headers.get("Content-Length")
    return f"{length} bytes are announced" if length is not None and length != str(size) else None
