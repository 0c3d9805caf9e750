"""A client that costs next to nothing: one kept-alive connection, and the time of each exchange."""

from __future__ import annotations

import http.client
import json
import time
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

_TIMEOUT_SECONDS: Final = 120.0
_LONG_POLL_SECONDS: Final = 60
_KEPT_SECONDS: Final = 2.0
"""uvicorn closes a connection that is silent for 5 s; one that was silent for this long is opened anew."""


class UnexpectedAnswer(RuntimeError):
    """The server answered something that no benchmark can go on from."""


class Client:
    """Speaks plain HTTP/1.1. Used by one thread."""

    def __init__(self, api_url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(api_url).netloc, timeout=_TIMEOUT_SECONDS)
        self._used_at = time.monotonic()

    def timed(self, method: str, path: str, body: object = None, *, expect: int = 200) -> tuple[bytes, float]:
        """Return the answer's body, and the milliseconds from sending the request to having read the answer.

        Raises:
          UnexpectedAnswer: the status is not ``expect``.
        """
        payload = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        if time.monotonic() - self._used_at > _KEPT_SECONDS:
            self._connection.close()
        began = time.perf_counter()
        self._connection.request(method, path, payload, headers)
        response = self._connection.getresponse()
        data = response.read()
        took = (time.perf_counter() - began) * 1000
        self._used_at = time.monotonic()
        if response.status != expect:
            raise UnexpectedAnswer(f"{method} {path}: {response.status} {data[:300].decode(errors='replace')}")
        return data, took

    def submit(self, **params: object) -> tuple[dict[str, Any], float]:
        """Submit a generate job of the demo model; return it and the milliseconds until the 202."""
        data, took = self.timed("POST", "/api/generate", {"model": "demo", **params}, expect=202)
        return json.loads(data), took

    def finished(self, job_id: str) -> dict[str, Any]:
        """Wait until a job succeeded and return it.

        Raises:
          UnexpectedAnswer: it did not succeed.
        """
        data, _ = self.timed("GET", f"/api/jobs/{job_id}?wait={_LONG_POLL_SECONDS}")
        job: dict[str, Any] = json.loads(data)
        if job["status"] != "succeeded":
            raise UnexpectedAnswer(f"job {job_id} is {job['status']}: {job['error']}")
        return job

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
