"""Previews on their way to Redis: rendered and encoded in a thread of their own, beside the GPU's and the saver's."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import structlog
from PIL import Image

from shared.channel.previews import PreviewChannel
from shared.domain.job import Claim

log = structlog.get_logger(__name__)

_WEBP_OPTIONS: Final = {"quality": 80, "method": 0}


class PreviewSender:
    """One thread for all jobs of a worker; a preview that comes while the last one is still sent is not made."""

    def __init__(self, channel: PreviewChannel, interval_seconds: float) -> None:
        self._channel = channel
        self._interval_seconds = interval_seconds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="previews")

    def follow(self, claim: Claim) -> JobPreviews:
        """Return where the previews of an attempt go."""
        return JobPreviews(self._executor, self._channel, claim, self._interval_seconds)

    def close(self) -> None:
        """End the thread and close all connections."""
        self._executor.shutdown()
        self._channel.close()


class JobPreviews:
    """The ``PreviewSink`` of one attempt."""

    def __init__(
        self, executor: ThreadPoolExecutor, channel: PreviewChannel, claim: Claim, interval_seconds: float
    ) -> None:
        self._executor = executor
        self._channel = channel
        self._claim = claim
        self._interval_seconds = interval_seconds
        self._offered_at: float | None = None
        self._sending: Future[None] | None = None

    def is_due(self) -> bool:
        """Whether the last preview is long enough ago, and sent."""
        if self._sending is not None and not self._sending.done():
            return False
        return self._offered_at is None or time.monotonic() - self._offered_at >= self._interval_seconds

    def offer(self, render: Callable[[], Image.Image]) -> None:
        """Render, encode and send in the other thread."""
        self._offered_at = time.monotonic()
        self._sending = self._executor.submit(self._send, render)

    def close(self) -> None:
        """Wait for a preview that is being sent, and forget the last one: the job is over."""
        if self._sending is not None:
            futures.wait([self._sending])
            self._channel.clear(self._claim.job_id, self._claim.attempt)

    def _send(self, render: Callable[[], Image.Image]) -> None:
        try:
            buffer = io.BytesIO()
            render().save(buffer, "WEBP", **_WEBP_OPTIONS)
        except Exception as error:  # noqa: BLE001  # a lost device, say: the job's own thread finds out by itself
            log.warning("no preview", action="preview_failed", job_id=self._claim.job_id, error=str(error))
            return
        self._channel.put(self._claim.job_id, self._claim.attempt, buffer.getvalue())
