"""A running job's progress, and the hint that somebody wants it to stop: one round trip per step.

Beside it, how far the GPU worker is with loading a model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import redis
import structlog

from shared.broker.urls import redis_url
from shared.domain.job import Progress
from shared.domain.report import LoadingReport
from shared.domain.status import Phase

log = structlog.get_logger(__name__)

CHANGES: Final = "flux:changes"
"""Channel that carries the id of each job that moved, so that nobody who waits for it has to ask again and again."""

LOADING_KEY: Final = "flux:loading"
"""Holds a ``LoadingReport`` as JSON while the GPU worker reads a model's weights."""

TTL_SECONDS: Final = 3600
_LOADING_TTL_SECONDS: Final = 10
"""A worker that reads reports twice a second; one that died says nothing any more."""
_TIMEOUT_SECONDS: Final = 1.0


class ProgressChannel:
    """Writes and reads progress; every method does without Redis when it is away."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            redis_url(url),
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            decode_responses=True,
        )

    def report(self, job_id: str, progress: Progress) -> bool | None:
        """Publish progress; return whether a cancel was hinted, or ``None`` when Redis did not answer."""
        payload = json.dumps(
            {
                "attempt": progress.attempt,
                "phase": progress.phase,
                "step": progress.step,
                "total_steps": progress.total_steps,
                "image_index": progress.image_index,
                "num_images": progress.num_images,
                "remote_position": progress.remote_position,
                "remote_eta_seconds": progress.remote_eta_seconds,
            }
        )
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(_progress_key(job_id), payload, ex=TTL_SECONDS)
                pipe.exists(_cancel_key(job_id))
                pipe.publish(CHANGES, job_id)
                return bool(pipe.execute()[1])
        except redis.RedisError as error:
            log.debug("progress not sent", action="progress_failed", error=str(error))
            return None

    def read_many(self, job_ids: Sequence[str]) -> dict[str, Progress]:
        """Return the progress of each job that has any."""
        if not job_ids:
            return {}
        try:
            values = self._redis.mget([_progress_key(job_id) for job_id in job_ids])
        except redis.RedisError as error:
            log.debug("progress not read", action="progress_failed", error=str(error))
            return {}
        return {job_id: _parse(value) for job_id, value in zip(job_ids, values, strict=True) if value}

    def hint_cancel(self, job_id: str) -> None:
        """Tell the worker at its next step; without Redis it learns by its next heartbeat."""
        try:
            self._redis.set(_cancel_key(job_id), "1", ex=TTL_SECONDS)
        except redis.RedisError as error:
            log.warning("cancel hint not sent", action="cancel_hint_failed", job_id=job_id, error=str(error))

    def clear(self, job_id: str) -> None:
        """Forget an attempt that is over, and tell those who wait for the job."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.delete(_progress_key(job_id), _cancel_key(job_id))
                pipe.publish(CHANGES, job_id)
                pipe.execute()
        except redis.RedisError as error:
            log.debug("progress not cleared", action="progress_failed", error=str(error))

    def report_loading(self, report: LoadingReport) -> None:
        """Publish how far a model's weights are read; forgotten once they are."""
        try:
            if report.done_bytes < report.total_bytes:
                self._redis.set(LOADING_KEY, report.model_dump_json(), ex=_LOADING_TTL_SECONDS)
            else:
                self._redis.delete(LOADING_KEY)
        except redis.RedisError as error:
            log.debug("loading not sent", action="progress_failed", error=str(error))

    def loading(self) -> LoadingReport | None:
        """Return which model is being read, and how far that is; ``None`` when none is, or Redis is away."""
        try:
            value = self._redis.get(LOADING_KEY)
        except redis.RedisError as error:
            log.debug("loading not read", action="progress_failed", error=str(error))
            return None
        return None if value is None else LoadingReport.model_validate_json(value)

    def ping(self) -> bool:
        """Return whether Redis answers within a second."""
        try:
            return bool(self._redis.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()


def _progress_key(job_id: str) -> str:
    return f"flux:progress:{job_id}"


def _cancel_key(job_id: str) -> str:
    return f"flux:cancel:{job_id}"


def _parse(value: str | bytes) -> Progress:
    fields = json.loads(value)
    return Progress(**{**fields, "phase": Phase(fields["phase"])})
