"""Every error a caller or an operator can meet, each with a stable code.

::

    ServiceError                     code, status_code, retryable
      RequestError             422   the caller can mend it; details name the field and the limit
        MediaError             422   an upload that is no usable picture
        UploadTooLarge         413   a request body above the limit
        UnsupportedMediaType   415   a body of another content type than the route takes
        CapabilityError        422   this model cannot do that
        IdempotencyConflict    422   the same key with another body
        UnknownModel           422   no such model in the catalog
      ForeignOrigin            403   a page of another site may not change anything
      UnknownHost              421   the server was asked by a name that is not known as its own
      NotFound                 404   no such job or image
      JobConflict              409   the job's status does not allow it
      CapacityError            429   the queue is full; Retry-After says when to come back
      Unavailable              503   a part of the stack is missing right now
      StorageFull              507   no room for pictures is left; nothing was accepted
      GenerationError                recorded on the attempt; a waiting caller sees its status_code
        ModelUnavailable       503   weights missing, gated, unreadable
        OutOfMemory            507   the card cannot hold this job; tried again, it may be free by then
        StorageFailed          507   a picture could not be written; tried again
        DeadlinePassed         504   the job did not start in time
        NumericError           500   the model produced NaN
        DeviceLost             500   the card stopped working for this process, which is replaced
        WorkerHung             500   no progress for longer than the budget; the process was replaced
        WorkerCrashed          500   the worker died on this job too often
        RemoteUnavailable      503   the Space is away, starting or busy; tried again
        QuotaExceeded          429   the Space's GPU quota is used up; tried again when it is not
        RemoteRefused          502   the Space does not let us in, or is none that can be used
        RemoteFailed           502   the Space failed, in its own words, or sent no picture
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ServiceError(Exception):
    """Base of all errors this application raises on purpose.

    ``message`` says what is wrong and what to do; ``details`` is machine-readable (field, limit,
    retry_after_seconds, ...).
    """

    code: ClassVar[str] = "service_error"
    status_code: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    @property
    def retry_after_seconds(self) -> float | None:
        """How long to wait before another try makes sense; ``None`` when that is not known."""
        return self.details.get("retry_after_seconds")


class RequestError(ServiceError):
    """The request cannot be served as it is written."""

    code = "invalid_request"
    status_code = 422


class MediaError(RequestError):
    """An uploaded file is not a picture this server accepts."""

    code = "invalid_image"


class UploadTooLarge(RequestError):
    """The request with its uploads is larger than the limit."""

    code = "upload_too_large"
    status_code = 413


class UnsupportedMediaType(RequestError):
    """The body is of another content type than the route takes."""

    code = "unsupported_media_type"
    status_code = 415


class CapabilityError(RequestError):
    """The chosen model cannot do what is asked."""

    code = "capability"


class UnknownModel(RequestError):
    """The request names a model that is not in the catalog."""

    code = "unknown_model"


class ForeignOrigin(ServiceError):
    """A page of another site sent a request that may change something."""

    code = "foreign_origin"
    status_code = 403


class UnknownHost(ServiceError):
    """The request is for a host name that this server does not know as its own."""

    code = "unknown_host"
    status_code = 421


class NotFound(ServiceError):
    """There is no such thing under this id."""

    code = "not_found"
    status_code = 404


class JobConflict(ServiceError):
    """The job is not in a status that allows this."""

    code = "job_conflict"
    status_code = 409


class IdempotencyConflict(RequestError):
    """The idempotency key was used for another request within the last day."""

    code = "idempotency_key_reuse"


class CapacityError(ServiceError):
    """The queue is full; ``details["retry_after_seconds"]`` says when to try again."""

    code = "queue_full"
    status_code = 429
    retryable = True


class Unavailable(ServiceError):
    """A part of the stack does not answer; nothing was accepted."""

    code = "unavailable"
    status_code = 503
    retryable = True


class StorageFull(ServiceError):
    """The disk of the media directory has hardly any room left; nothing was accepted."""

    code = "storage_full"
    status_code = 507
    retryable = True


class GenerationError(ServiceError):
    """A run ended without pictures."""

    code = "generation_failed"


class ModelUnavailable(GenerationError):
    """The weights are missing, gated or unreadable; the message names the remedy."""

    code = "model_unavailable"
    status_code = 503


class OutOfMemory(GenerationError):
    """The card (or the host) could not hold the job."""

    code = "out_of_memory"
    status_code = 507
    retryable = True


class StorageFailed(GenerationError):
    """A finished picture could not be written to the media directory."""

    code = "storage_failed"
    status_code = 507
    retryable = True


class DeadlinePassed(GenerationError):
    """The job was still waiting at its deadline, so it was not run."""

    code = "deadline_passed"
    status_code = 504


class NumericError(GenerationError):
    """The model produced values that are no picture (NaN or infinity)."""

    code = "numeric_error"


class DeviceLost(GenerationError):
    """The device takes no more work from this process; counted as a crash of it."""

    code = "device_lost"


class WorkerHung(GenerationError):
    """A phase of the run went over its budget without progress, so the worker process was ended."""

    code = "worker_hung"


class WorkerCrashed(GenerationError):
    """The worker process died while running this job, as often as the crash limit allows."""

    code = "worker_crashed"


class MediaMissing(GenerationError):
    """An input picture of the job is no longer in the media directory."""

    code = "input_missing"


class RemoteUnavailable(GenerationError):
    """The Space cannot be reached, is still starting, is busy, or did not finish in time."""

    code = "remote_unavailable"
    status_code = 503
    retryable = True


class QuotaExceeded(GenerationError):
    """The GPU time that the Space grants this caller is used up."""

    code = "quota_exceeded"
    status_code = 429
    retryable = True


class RemoteRefused(GenerationError):
    """The Space is private, missing, switched off, or no Gradio app that this server understands."""

    code = "remote_refused"
    status_code = 502


class RemoteFailed(GenerationError):
    """The Space ended the call in an error of its own, or its answer holds no picture."""

    code = "remote_failed"
    status_code = 502
