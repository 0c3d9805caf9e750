"""How a submit answers: at once with 202, or after waiting with the finished job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final

from fastapi import Depends, Header, Query, Response
from fastapi.concurrency import run_in_threadpool

from api.addresses import address
from api.deps import Services, ServicesDep
from api.errors import JOB_CANCELLED, JobFailed, status_of_failure
from api.services.submission import Submission
from shared.domain.errors import RequestError
from shared.domain.job import Job
from shared.domain.status import JobStatus
from shared.schemas.jobs import JobRead, JobWithImage


class ResponseFormat(StrEnum):
    """Whether the finished picture comes as an address or inside the answer."""

    URL = "url"
    B64_JSON = "b64_json"


class Wish:
    """What the caller wants to be told, and when."""

    def __init__(
        self,
        services: ServicesDep,
        wait: Annotated[
            float | None,
            Query(ge=0, allow_inf_nan=False, description="hold the request up to so many seconds for the result"),
        ] = None,
        response_format: Annotated[
            ResponseFormat,
            Query(description="b64_json puts the first picture into the answer, and waits as long as allowed"),
        ] = ResponseFormat.URL,
        prefer: Annotated[
            list[str] | None,
            Header(description="`wait=SECONDS`, as the query parameter; more than its limit is cut to the limit"),
        ] = None,
    ) -> None:
        longest = services.settings.max_wait_seconds
        self.inline = response_format is ResponseFormat.B64_JSON
        if wait is not None and wait > longest:
            raise RequestError(f"wait is {wait:g} s; at most {longest:g}.", field="wait", limit=longest)
        preferred = _preferred_wait(prefer) if wait is None else None
        # RFC 7240: a preference that cannot be met is no error.
        self.preferred_seconds = min(preferred, longest) if preferred is not None else None
        wanted = wait if wait is not None else self.preferred_seconds
        self.wait_seconds = wanted if wanted is not None else (longest if self.inline else 0.0)


WishDep = Annotated[Wish, Depends()]
IdempotencyKeyDep = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="equal submits with the same key within 24 hours are one job",
    ),
]


_PREFERRED_WAIT: Final = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d+)"?\s*(?:[,;]|$)', re.IGNORECASE)


def _preferred_wait(prefer: Sequence[str] | None) -> float | None:
    """Return the seconds of the first RFC 7240 ``Prefer: wait=N`` in these header lines."""
    found = _PREFERRED_WAIT.search(",".join(prefer or ()))
    return float(found.group(1)) if found else None


async def submit_and_answer(
    services: Services, submission: Submission, wish: Wish, response: Response
) -> JobRead | JobWithImage:
    """Accept a job and answer as the caller wishes.

    Raises:
      JobFailed: the caller waited, and the job failed or was cancelled.
    """
    accepted = await run_in_threadpool(services.submission.submit, submission)
    job = accepted.job
    if accepted.is_replay:
        response.headers["Idempotency-Replayed"] = "true"
    if wish.preferred_seconds is not None:
        response.headers["Preference-Applied"] = f"wait={wish.preferred_seconds:g}"
    if wish.wait_seconds > 0:
        await services.watcher.wait(job.id, wish.wait_seconds)
        job = await run_in_threadpool(services.queries.get, job.id)
    return await run_in_threadpool(_answer, services, job, wish, response)


def _answer(services: Services, job: Job, wish: Wish, response: Response) -> JobRead | JobWithImage:
    response.headers["Location"] = address(f"/api/jobs/{job.id}")
    if wish.wait_seconds > 0 and job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise _failure(services, job)
    if job.status is not JobStatus.SUCCEEDED:
        response.status_code = 202
        return services.queries.present(job)
    response.status_code = 200
    return services.queries.present_with_image(job) if wish.inline else services.queries.present(job)


def _failure(services: Services, job: Job) -> JobFailed:
    read = services.queries.present(job).model_dump(mode="json")
    if job.error is None:
        return JobFailed(JOB_CANCELLED, "The job was cancelled before it was done.", 409, job=read)
    return JobFailed(job.error.code, job.error.message, status_of_failure(job.error.code), job=read)
