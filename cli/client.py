"""The Python client: submit, watch, wait, save. Needs httpx2 and this project's wire models only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from shared.domain.addresses import is_own_url
from shared.domain.status import TERMINAL_STATUSES, JobStatus
from shared.schemas.jobs import ImageRead, JobPageRead, JobRead
from shared.schemas.models import ModelsRead
from shared.schemas.server import ReadyRead

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_LONG_POLL_SECONDS: Final = 1.0


class FluxImageError(Exception):
    """The server refused or failed; carries its error object."""

    def __init__(self, status_code: int, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {message}")
        self.status_code = status_code
        self.code = code
        self.message = message
        self.details = details


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

    def __init__(self, base_url: str = DEFAULT_URL, *, timeout_seconds: float = 60.0) -> None:
        self._http = httpx2.Client(base_url=base_url, timeout=timeout_seconds, trust_env=not is_own_url(base_url))

    def generate(
        self, prompt: str, *, image: Path | None = None, reference: Path | None = None, **params: Any
    ) -> JobRead:
        """Submit a text-to-image job, from the picture file ``image`` or towards ``reference`` where given."""
        named = {"image": image, "reference": reference}
        files = {role: (path.name, path.read_bytes()) for role, path in named.items() if path is not None}
        if files:
            return self._job(self._http.post("/api/generate", data=_form(prompt, params), files=files))
        return self._job(self._http.post("/api/generate", json={"prompt": prompt, **params}))

    def edit(self, file: Path, prompt: str, **params: Any) -> JobRead:
        """Submit an edit of a picture file."""
        files = {"file": (file.name, file.read_bytes())}
        return self._job(self._http.post("/api/edit", data=_form(prompt, params), files=files))

    def fill(self, image: Path, mask: Path, prompt: str, **params: Any) -> JobRead:
        """Submit a fill: the white part of ``mask`` is repainted."""
        files = {"image": (image.name, image.read_bytes()), "mask": (mask.name, mask.read_bytes())}
        return self._job(self._http.post("/api/fill", data=_form(prompt, params), files=files))

    def job(self, job_id: str, *, wait_seconds: float = 0, since: int | None = None) -> JobRead:
        """Read a job; with ``wait_seconds``, once it moved past ``since`` or ended."""
        query = {"wait": wait_seconds, **({} if since is None else {"since": since})}
        return self._job(self._http.get(f"/api/jobs/{job_id}", params=query))

    def jobs(self, **query: Any) -> JobPageRead:
        """List jobs, newest first."""
        return JobPageRead.model_validate(_checked(self._http.get("/api/jobs", params=query)))

    def cancel(self, job_id: str) -> JobRead:
        """Stop a job."""
        return self._job(self._http.post(f"/api/jobs/{job_id}/cancel"))

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        on_update: Callable[[JobRead], None] = lambda _: None,
    ) -> JobRead:
        """Poll until the job succeeded and return it; ``on_update`` sees every poll.

        Raises:
          JobNotSucceeded: it failed or was cancelled.
          TimeoutError: it was not over in time; it goes on.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        job = self.job(job_id)
        while job.status not in TERMINAL_STATUSES:
            on_update(job)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{job_id} is still {job.status}")
            job = self.job(job_id, wait_seconds=_LONG_POLL_SECONDS, since=job.status_seq)
        on_update(job)
        if job.status is not JobStatus.SUCCEEDED:
            raise JobNotSucceeded(job)
        return job

    def download(self, image: ImageRead) -> bytes:
        """Return the bytes of a finished picture."""
        response = self._http.get(image.url)
        if response.is_error:
            raise _error(response)
        return response.content

    def save(self, image: ImageRead, path: Path) -> Path:
        """Write a finished picture to ``path``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.download(image))
        return path

    def models(self) -> ModelsRead:
        """List what the server can run."""
        return ModelsRead.model_validate(_checked(self._http.get("/api/models")))

    def ready(self) -> ReadyRead:
        """Return the state of the server's parts, ready or not."""
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

    def _job(self, response: httpx2.Response) -> JobRead:
        return JobRead.model_validate(_checked(response))


def _form(prompt: str, params: Mapping[str, Any]) -> dict[str, str]:
    return {"prompt": prompt, **{name: str(value) for name, value in params.items()}}


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
