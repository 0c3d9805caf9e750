"""The state of the server and its errors, as they go over the wire."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.domain.report import LoadingReport


class HealthRead(BaseModel):
    """The process answers."""

    status: str
    version: str


class ReadyRead(BaseModel):
    """Whether a job submitted now would run, part by part."""

    ready: bool
    database: str
    broker: str
    storage: str
    worker: str
    worker_heartbeat_age_seconds: float | None
    loading: LoadingReport | None = None
    """The model whose weights the GPU worker reads from the disk right now."""
    remote_worker: str


class ErrorDetail(BaseModel):
    """A stable code, a sentence for people, and machine-readable details."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorBody(BaseModel):
    """Every error of this API looks like this."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "capability",
                        "message": "num_inference_steps is 400; demo takes at most 50.",
                        "details": {"field": "num_inference_steps", "limit": 50},
                    }
                }
            ]
        }
    )

    error: ErrorDetail
