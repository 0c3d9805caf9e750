"""What can go wrong with a Space, in this application's words: retryable or final, and when to come back."""

from __future__ import annotations

import html
import re
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Final

import httpx
import httpx2
from gradio_client.exceptions import AppError, AuthenticationError
from gradio_client.utils import QueueError, TooManyRequestsError
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from shared.domain.errors import QuotaExceeded, RemoteFailed, RemoteRefused, RemoteUnavailable, ServiceError

STARTING_SECONDS: Final = 60
"""A Space takes minutes to build or to load its weights."""
BUSY_SECONDS: Final = 30
_UNSTATED_QUOTA_SECONDS: Final = 3600
_MAX_MESSAGE_CHARACTERS: Final = 300

# ZeroGPU's words, as they have been over the years; they come as the text of an ordinary error of the app.
_QUOTA: Final = re.compile(r"exceeded your [\w ]*quota|quota exceeded", re.IGNORECASE)
_RETRY_IN: Final = re.compile(r"(?:re)?try(?: again)? in (?:(\d+) days?, )?(\d+):(\d{2}):(\d{2})", re.IGNORECASE)
_NO_GPU: Final = re.compile(r"no gpu (?:was|is currently) available|gpu task aborted|at capacity", re.IGNORECASE)
_FILTERED: Final = re.compile(r"\bnsfw\b|safety checker|content filter", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^>]+>")

TOKEN_ADVICE: Final = "set FLUX_REMOTE_TOKEN to a token that may use it"


def translate(error: BaseException, space: str) -> ServiceError:
    """Return the error of this application that ``error``, raised while talking to ``space``, stands for."""
    match error:
        case ServiceError():
            return error
        case AppError():
            return _from_app(error, space)
        case RepositoryNotFoundError():
            return RemoteRefused(
                f"There is no Space {space}, or it is private. Check FLUX_REMOTE_SPACE, or {TOKEN_ADVICE}."
            )
        case OfflineModeIsEnabled():
            return RemoteRefused(
                f"HF_HUB_OFFLINE is set, so {space} is not looked up. Unset it, or give the Space's URL."
            )
        case HfHubHTTPError() if error.response is not None:
            return from_status(error.response.status_code, space)
        case httpx.HTTPStatusError():
            return from_status(error.response.status_code, space)
        case AuthenticationError():
            return from_status(401, space)
        case TooManyRequestsError():
            return from_status(429, space)
        case QueueError():
            return RemoteUnavailable(f"The queue of {space} is full.", retry_after_seconds=BUSY_SECONDS)
        case httpx.TransportError() | httpx2.TransportError():
            return RemoteUnavailable(f"{space} cannot be reached: {describe(error)}.")
        case CancelledError():
            return RemoteUnavailable(f"The connection to {space} was lost.")
        case ValueError() if str(error) == "Server stopped.":
            return RemoteUnavailable(f"{space} was stopped.", retry_after_seconds=STARTING_SECONDS)
    return RemoteFailed(f"{space} does not answer as a Gradio app should: {describe(error)}.")


def from_status(status: int, space: str) -> ServiceError:
    """Return the error for an HTTP status that is no success."""
    if 300 <= status < 400:
        return RemoteRefused(f"{space} answers {status}: it has moved. Give the URL it moved to in FLUX_REMOTE_SPACE.")
    if status in (401, 403):
        return RemoteRefused(f"{space} answers {status}: it does not let us in; {TOKEN_ADVICE}.")
    if status == 404:
        return RemoteRefused(f"{space} answers 404: there is no Gradio app. Check FLUX_REMOTE_SPACE.")
    if status == 429:
        return RemoteUnavailable(f"{space} answers 429: too many requests.", retry_after_seconds=STARTING_SECONDS)
    if status >= 500:
        return RemoteUnavailable(
            f"{space} answers {status}: it is starting, or broken.", retry_after_seconds=STARTING_SECONDS
        )
    return RemoteFailed(f"{space} answers {status} to a request that it should take.")


def _from_app(error: AppError, space: str) -> ServiceError:
    """Tell apart what an app reports by the same means: its own errors, and those of the GPU service below it."""
    words = describe(error)
    if _QUOTA.search(f"{error.title} {words}"):
        return QuotaExceeded(f"{space}: {words}", retry_after_seconds=_stated_wait(words))
    if _NO_GPU.search(words):
        return RemoteUnavailable(f"{space}: {words}", retry_after_seconds=BUSY_SECONDS)
    if _FILTERED.search(words):
        return RemoteFailed(f"{space} filtered the picture out: {words}")
    return RemoteFailed(f"{space} failed: {words}")


def _stated_wait(words: str) -> int:
    found = _RETRY_IN.search(words)
    if found is None:
        return _UNSTATED_QUOTA_SECONDS
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return int(timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds())


def describe(error: BaseException) -> str:
    """Return an error's text on one line, without markup; its type where it has none."""
    text = " ".join(html.unescape(_TAG.sub(" ", str(error))).split())
    return text[:_MAX_MESSAGE_CHARACTERS].rstrip(".") or type(error).__name__
