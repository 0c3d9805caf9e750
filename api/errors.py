"""Every error leaves as ``{"error": {"code", "message", "details"}}``; tracebacks stay in the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.methods import allowed_methods
from api.own_trouble import own_trouble
from shared.domain.errors import (
    CapabilityError,
    CapacityError,
    DeadlinePassed,
    GenerationError,
    JobConflict,
    NotFound,
    NumericError,
    OutOfMemory,
    RemoteFailed,
    RequestError,
    ServiceError,
    Unavailable,
    UnsupportedMediaType,
    UploadTooLarge,
)
from shared.schemas.server import ErrorBody

log = structlog.get_logger(__name__)

JOB_CANCELLED: Final = "job_cancelled"

_HTTP_CODES: Final = {404: "not_found"}

_BOUNDS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length", "multiple_of")
"""Where pydantic says by which limit a value was refused."""

_MAX_PROBLEMS: Final = 8
MAX_FIELD_CHARACTERS: Final = 64
"""How much of a field's name an answer repeats; an unknown one may be of any length."""

_DOCUMENTED: Final[Mapping[int, tuple[str, str, str, Mapping[str, Any]]]] = {
    404: ("no such thing", NotFound.code, "There is no job 'job_1'.", {"id": "job_1"}),
    409: (
        "the job's status does not allow it, or it was cancelled while the caller waited",
        JobConflict.code,
        "Job job_1 is running; only a waiting job can be changed.",
        {"status": "running"},
    ),
    413: (
        "the request is larger than the limit",
        UploadTooLarge.code,
        "body: the request is larger than 33554432 bytes.",
        {"field": "body", "limit": 33_554_432},
    ),
    415: (
        "the body is of another content type than the route takes",
        UnsupportedMediaType.code,
        "Content-Type is text/plain; this route takes application/json.",
        {"field": "Content-Type", "limit": "application/json"},
    ),
    422: (
        "the request cannot be served as it is written; details name field and limit",
        CapabilityError.code,
        "num_inference_steps is 400; demo takes at most 50.",
        {"field": "num_inference_steps", "limit": 50},
    ),
    429: (
        "the queue is full; see Retry-After",
        CapacityError.code,
        "10000 jobs are waiting, which is the limit. Try again later.",
        {"limit": 10_000, "retry_after_seconds": 30},
    ),
    500: (
        "generation failed (only with `wait`; details hold the job), or a bug",
        NumericError.code,
        "The model produced values that are no picture.",
        {"job": {}},
    ),
    502: (
        "the remote Space refused or failed (only with `wait`; details hold the job)",
        RemoteFailed.code,
        "The Space failed: an error of its own.",
        {"job": {}},
    ),
    503: (
        "a part of the stack is missing; see Retry-After",
        Unavailable.code,
        "No worker has started yet, so there is no default model. Name a model, or try again soon.",
        {"retry_after_seconds": 5},
    ),
    504: (
        "the job did not start before its deadline (only with `wait`; details hold the job)",
        DeadlinePassed.code,
        "The job did not start before its deadline.",
        {"job": {}},
    ),
    507: (
        "no memory for the job (only with `wait`; details hold the job), or no disk",
        OutOfMemory.code,
        "The card cannot hold this job.",
        {"job": {}},
    ),
}
"""Per status: what it means, and an example's code, message and details."""


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries for the errors a route can answer with."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        description, code, message, details = _DOCUMENTED[status]
        example = {"error": {"code": code, "message": message, "details": details}}
        responses[status] = {
            "model": ErrorBody,
            "description": description,
            "content": {"application/json": {"example": example}},
        }
    return responses


class JobFailed(ServiceError):
    """The job a caller waited for did not succeed; ``details["job"]`` is the whole job."""

    def __init__(self, code: str, message: str, status_code: int, **details: Any) -> None:
        super().__init__(message, **details)
        self.failed_code = code
        self.failed_status_code = status_code


def status_of_failure(code: str) -> int:
    """Return the HTTP status for a job that failed with ``code``: that of its error class, else 500."""
    classes: list[type[GenerationError]] = [GenerationError, *GenerationError.__subclasses__()]
    return next((known.status_code for known in classes if known.code == code), 500)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of ``app`` look the same."""

    @app.exception_handler(JobFailed)
    async def failed(_request: Request, error: JobFailed) -> Response:
        return _answer(error.failed_status_code, error.failed_code, error.message, error.details)

    @app.exception_handler(ServiceError)
    async def service(_request: Request, error: ServiceError) -> Response:
        return error_answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        problems = [_problem(item) for item in error.errors()[:_MAX_PROBLEMS]]
        message = "; ".join(f"{item['field']}: {item['message']}" for item in problems)
        return _answer(422, RequestError.code, message, {**problems[0], "problems": problems})

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, ServiceError):
            return error_answer(error.__cause__)
        if (trouble := own_trouble(error)) is not None:
            return _log_and_answer(trouble, error)
        if error.status_code == 400:  # FastAPI's word for a body that it cannot parse
            gone = isinstance(error.__cause__, ClientDisconnect | ConnectionError)
            reason = "the connection ended too early" if gone else error.__cause__ or error.detail
            return error_answer(RequestError(f"body: the request cannot be parsed: {reason}", field="body"))
        if error.status_code == 405:
            return _wrong_method(request, allowed_methods(app, request.scope))
        code = _HTTP_CODES.get(error.status_code, "error")
        return _answer(error.status_code, code, str(error.detail), {}, error.headers)

    @app.exception_handler(MemoryError)
    @app.exception_handler(OperationalError)
    @app.exception_handler(OSError)
    async def own(_request: Request, error: Exception) -> Response:
        trouble = own_trouble(error)
        if trouble is None:
            raise error
        return _log_and_answer(trouble, error)


def bug_answer() -> Response:
    """Return the answer to a request that a mistake of the server ended."""
    return _answer(500, "internal_error", "The server made a mistake; its log says which.", {})


def error_answer(error: ServiceError) -> Response:
    """Return the answer that an error of this application stands for."""
    headers = {}
    if (seconds := error.retry_after_seconds) is not None:
        headers["Retry-After"] = str(seconds)
    return _answer(error.status_code, error.code, error.message, error.details, headers)


def _log_and_answer(trouble: ServiceError, error: Exception) -> Response:
    log.error("trouble of this machine", action="request_failed", code=trouble.code, exc_info=error)
    return error_answer(trouble)


def _wrong_method(request: Request, allowed: Sequence[str]) -> Response:
    """Answer OPTIONS with what the address takes, and any other method that it does not take with 405."""
    headers = {"Allow": ", ".join(allowed)}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=headers)
    message = f"{request.method} is not for this address; it takes {headers['Allow']}."
    return _answer(405, "method_not_allowed", message, {"field": "method", "limit": list(allowed)}, headers)


def _problem(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return field, message and limit of one validation error, without echoing the input."""
    context = item.get("ctx", {})
    if item["type"] == "json_invalid":
        return {"field": "body", "message": f"this is no JSON: {context.get('error', item['msg'])}"}
    field = _field(item["loc"])
    problem = {"field": field, "message": _words(item, field)}
    limit = next((context[bound] for bound in _BOUNDS if bound in context), None)
    return problem if limit is None else {**problem, "limit": limit}


def _words(item: Mapping[str, Any], field: str) -> str:
    """Return what is wrong with one field; in words of our own where pydantic and FastAPI speak of Python."""
    message: str = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return "required, but missing or empty"
    if message.startswith("Expected UploadFile"):
        return f"this is no file; send it as a part with a file name (curl: -F {field}=@picture.png)"
    if isinstance(item.get("input"), UploadFile):
        return "this is a file; send it as a part without a file name"
    return message


def _field(location: Sequence[Any]) -> str:
    """Return the name of a field, not all of it when it is long: an unknown one is the caller's own text."""
    name = ".".join(str(part) for part in location if part not in ("body", "query", "path", "header")) or "body"
    return name[:MAX_FIELD_CHARACTERS]


def _answer(
    status: int,
    code: str,
    message: str,
    details: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = {"error": {"code": code, "message": message, "details": dict(details)}}
    # A caller's text may hold lone surrogates, which no UTF-8 has.
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(content, status_code=status, headers=headers, media_type="application/json")
