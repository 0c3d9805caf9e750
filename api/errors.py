"""Every error leaves as ``{"error": {"code", "message", "details"}}``; tracebacks stay in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from shared.domain.errors import GenerationError, ServiceError
from shared.schemas import ErrorBody

log = structlog.get_logger(__name__)

_HTTP_CODES: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "upload_too_large",
    415: "unsupported_media_type",
}

ERROR_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        404: "no such thing",
        413: "the upload is larger than the limit",
        422: "the request cannot be served as it is written; details name field and limit",
        429: "the queue is full; see Retry-After",
        500: "generation failed (only with `wait`), or a bug",
        503: "a part of the stack does not answer; see Retry-After",
        507: "out of memory (only with `wait`)",
    }.items()
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries for the errors a route can answer with."""
    return {status: ERROR_RESPONSES[status] for status in statuses}


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
    async def failed(_request: Request, error: JobFailed) -> JSONResponse:
        return _answer(error.failed_status_code, error.failed_code, error.message, error.details)

    @app.exception_handler(ServiceError)
    async def service(_request: Request, error: ServiceError) -> JSONResponse:
        headers = {}
        if (seconds := error.details.get("retry_after_seconds")) is not None:
            headers["Retry-After"] = str(seconds)
        return _answer(error.status_code, error.code, error.message, error.details, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [_problem(item) for item in error.errors()]
        message = "; ".join(f"{item['field']}: {item['message']}" for item in problems)
        return _answer(422, "invalid_request", message, {**problems[0], "problems": problems})

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, "error")
        return _answer(error.status_code, code, str(error.detail), {}, dict(error.headers or {}))

    @app.exception_handler(OperationalError)
    async def database(_request: Request, error: OperationalError) -> JSONResponse:
        log.exception("database does not answer", action="database_failed", exc_info=error)
        return _answer(
            503, "database_unavailable", "The database does not answer; try again.", {}, {"Retry-After": "5"}
        )

    @app.exception_handler(OSError)
    async def disk(_request: Request, error: OSError) -> JSONResponse:
        log.exception("media directory does not answer", action="storage_failed", exc_info=error)
        return _answer(
            507, "storage_failed", f"The server cannot write or read pictures: {error.strerror or error}.", {}
        )


def _problem(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return field, message and limits of one validation error, without echoing the input."""
    path: Sequence[Any] = [part for part in item["loc"] if part not in ("body", "query", "path")]
    context = {key: value for key, value in item.get("ctx", {}).items() if isinstance(value, int | float | str)}
    message = item["msg"].removeprefix("Value error, ")
    return {"field": ".".join(map(str, path)) or "body", "message": message, **context}


def _answer(
    status: int,
    code: str,
    message: str,
    details: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    body = {"error": {"code": code, "message": message, "details": dict(details)}}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))
