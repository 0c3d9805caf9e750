"""The Python client: submit, watch, wait, save. Needs httpx2 and this project's wire models only.

A server that is away for a while, or says "later", is asked again: see ``RetryPolicy``. Each submit has an
``Idempotency-Key``, so that asking again never makes a second job.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from cli.retrying import Retrying, RetryPolicy
from shared.domain.addresses import is_own_url
from shared.domain.status import TERMINAL_STATUSES, JobStatus
from shared.schemas.jobs import ImageRead, JobPageRead, JobRead
from shared.schemas.models import ModelsRead
from shared.schemas.server import ReadyRead

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_LONG_POLL_SECONDS: Final = 1.0
_RETRIES: Final = RetryPolicy()


class FluxImageError(Exception):
    """The server refused or failed; carries its error object."""

    def __init__(self, status_code: int, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {message}")
        self.status_code = status_code
        self.code = code
        self.message = message
        self.details = details


class ServerUnreachable(FluxImageError):
    """No answer came for as long as the client asks again; ``status_code`` is 0."""

    def __init__(self, url: str, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        super().__init__(0, "unreachable", f"{url} does not answer: {reason}. Is the server running?", {"url": url})


class JobNotSucceeded(Exception):
    """``wait`` saw the job end in another status than ``succeeded``; ``job`` is what it became."""

    def __init__(self, job: JobRead) -> None:
        reason = f": {job.error.code}: {job.error.message}" if job.error else ""
        super().__init__(f"{job.id} {job.status}{reason}")
        self.job = job


class FluxImageClient:
    """Speaks to one server. Parameters are the API's own, see ``GET /api/models`` for their limits.

    A server on this machine is asked directly; for any other one the proxy settings of the environment hold.
    """

    def __init__(
        self, base_url: str = DEFAULT_URL, *, timeout_seconds: float = 60.0, retries: RetryPolicy = _RETRIES
    ) -> None:
        self._http = httpx2.Client(base_url=base_url, timeout=timeout_seconds, trust_env=not is_own_url(base_url))
        self._retrying = Retrying(retries)

    def generate(
        self,
        prompt: str,
        *,
        image: Path | None = None,
        reference: Path | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> JobRead:
        """Submit a text-to-image job, from the picture file ``image`` or towards ``reference`` where given.

        Equal submits with one ``idempotency_key`` are one job, also from another process; unset: a new key.
        """
        named = {"image": image, "reference": reference}
        files = {role: (path.name, path.read_bytes()) for role, path in named.items() if path is not None}
        if files:
            return self._submit("/api/generate", idempotency_key, data=_form(prompt, params), files=files)
        return self._submit("/api/generate", idempotency_key, json={"prompt": prompt, **params})

    def edit(self, file: Path, prompt: str, *, idempotency_key: str | None = None, **params: Any) -> JobRead:
        """Submit an edit of a picture file; ``idempotency_key`` as in ``generate``."""
        files = {"file": (file.name, file.read_bytes())}
        return self._submit("/api/edit", idempotency_key, data=_form(prompt, params), files=files)

    def fill(
        self, image: Path, mask: Path, prompt: str, *, idempotency_key: str | None = None, **params: Any
    ) -> JobRead:
        """Submit a fill: the white part of ``mask`` is repainted; ``idempotency_key`` as in ``generate``."""
        files = {"image": (image.name, image.read_bytes()), "mask": (mask.name, mask.read_bytes())}
        return self._submit("/api/fill", idempotency_key, data=_form(prompt, params), files=files)

    def job(self, job_id: str, *, wait_seconds: float = 0, since: int | None = None) -> JobRead:
        """Read a job; with ``wait_seconds``, once it moved past ``since`` or ended."""
        return self._read_job(job_id, wait_seconds, since, None)

    def jobs(self, **query: Any) -> JobPageRead:
        """List jobs, newest first."""
        return JobPageRead.model_validate(_checked(self._ask("GET", "/api/jobs", params=query)))

    def cancel(self, job_id: str) -> JobRead:
        """Stop a job; a second time does no harm."""
        return self._job(self._ask("POST", f"/api/jobs/{job_id}/cancel"))

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        on_update: Callable[[JobRead], None] = lambda _: None,
    ) -> JobRead:
        """Poll until the job succeeded and return it; ``on_update`` sees every poll. Outlives a restart of the server.

        Raises:
          JobNotSucceeded: it failed or was cancelled.
          TimeoutError: it was not over in time; it goes on.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        job = self._poll(job_id, None, deadline)
        while job.status not in TERMINAL_STATUSES:
            on_update(job)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} is still {job.status}")
            job = self._poll(job_id, job.status_seq, deadline)
        on_update(job)
        if job.status is not JobStatus.SUCCEEDED:
            raise JobNotSucceeded(job)
        return job

    def download(self, image: ImageRead) -> bytes:
        """Return the bytes of a finished picture."""
        response = self._ask("GET", self._below_base(image.url))
        if response.is_error:
            raise _error(response)
        return response.content

    def save(self, image: ImageRead, path: Path) -> Path:
        """Write a finished picture to ``path``; under this name there is never a part of it."""
        data = self.download(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        return path

    def models(self) -> ModelsRead:
        """List what the server can run."""
        return ModelsRead.model_validate(_checked(self._ask("GET", "/api/models")))

    def ready(self) -> ReadyRead:
        """Return the state of the server's parts, ready or not; asks once."""
        return ReadyRead.model_validate(self._http.get("/health/ready").json())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, path: str, idempotency_key: str | None, **body: Any) -> JobRead:
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._job(self._ask("POST", path, headers=headers, **body))

    def _poll(self, job_id: str, since: int | None, deadline: float | None) -> JobRead:
        """Read a job for ``wait``: at once, or once it moved past ``since``; nobody is asked after ``deadline``."""
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return self._read_job(job_id, 0 if since is None else _LONG_POLL_SECONDS, since, left)
        except ServerUnreachable as error:
            if left is None:
                raise
            raise TimeoutError(f"{job_id}: {error.message}") from error

    def _read_job(self, job_id: str, wait_seconds: float, since: int | None, retry_seconds: float | None) -> JobRead:
        query = {"wait": wait_seconds, **({} if since is None else {"since": since})}
        return self._job(self._ask("GET", f"/api/jobs/{job_id}", retry_seconds, params=query))

    def _ask(self, method: str, path: str, retry_seconds: float | None = None, **request: Any) -> httpx2.Response:
        """Return the answer to a request that may be made again.

        Raises:
          ServerUnreachable: no answer came in all that time.
        """
        try:
            return self._retrying.call(lambda: self._http.request(method, path, **request), retry_seconds)
        except httpx2.TransportError as error:
            shown = self._http.base_url.copy_with(userinfo=b"")
            raise ServerUnreachable(str(shown), error) from error

    def _below_base(self, address: str) -> str:
        """Return an address out of an answer without the prefix of a proxy, which ``base_url`` has, too."""
        prefix = self._http.base_url.path.rstrip("/")
        return address.removeprefix(prefix) if address.startswith(f"{prefix}/") else address

    def _job(self, response: httpx2.Response) -> JobRead:
        return JobRead.model_validate(_checked(response))


def _form(prompt: str, params: Mapping[str, Any]) -> dict[str, str]:
    return {"prompt": prompt, **{name: str(value) for name, value in params.items() if value is not None}}


def _checked(response: httpx2.Response) -> Any:
    if response.is_error:
        raise _error(response)
    return response.json()


def _error(response: httpx2.Response) -> FluxImageError:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return FluxImageError(response.status_code, "unexpected_answer", response.text[:200], {})
    return FluxImageError(response.status_code, error["code"], error["message"], error["details"])
