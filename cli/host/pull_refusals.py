"""Every way in which `flux-image pull` may fail, in words that say what to do."""

from __future__ import annotations

import errno
from typing import Final, Self

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from shared.domain.adapter import IPAdapterSpec
from shared.domain.model import PipelineSpec
from shared.secrets import clean_token

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_TOKENS_PAGE: Final = "https://huggingface.co/settings/tokens"
KEPT: Final = "What came is kept: the same command goes on from there."


class PullRefused(Exception):
    """A download that cannot go on; the message is what the user reads."""

    @classmethod
    def no_hub(cls, error: Exception) -> Self:
        """Return the refusal of an answer that no hub gives."""
        return cls(
            f"{constants.ENDPOINT} answers, but not as a Hugging Face hub does ({_first_line(error)}). "
            "Check HF_ENDPOINT, and whether this network shows a login page first."
        )


def saved_token() -> str | None:
    """Return the token that `hf auth login` has saved, ``None`` without one.

    Raises:
      PullRefused: it cannot be sent; it is not repeated in the message.
    """
    token = get_token()
    try:
        return token if clean_token(token) else None
    except ValueError as error:
        raise PullRefused(f"The token saved in {constants.HF_TOKEN_PATH} cannot be used: {error}.") from error


def explain(spec: PipelineSpec | IPAdapterSpec, error: Exception, *, token: str | None) -> str:
    """Return what went wrong and what to do, for the error of a download or any error that caused it."""
    text = _explain(spec, _chain(error), has_token=token is not None)
    return text.replace(token, "hf_...") if token else text


def retry_after_seconds(error: HfHubHTTPError) -> int | None:
    """Return how long a server wants to be left alone (Retry-After, RFC 9110, section 10.2.3), if it says."""
    value = error.response.headers.get("Retry-After", "").strip()
    return int(value) if value.isdigit() else None


def _explain(spec: PipelineSpec | IPAdapterSpec, causes: list[BaseException], *, has_token: bool) -> str:
    for cause in causes:
        if isinstance(cause, PullRefused):
            return str(cause)
        if isinstance(cause, HfHubHTTPError):
            return _explain_status(spec, cause, has_token)
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it and try again."
        if isinstance(cause, httpx2.TimeoutException):
            return (
                f"{constants.ENDPOINT} is silent: nothing came for {constants.HF_HUB_DOWNLOAD_TIMEOUT} s, several "
                f"times. {KEPT}"
            )
        if isinstance(cause, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol):
            return (
                f"{constants.ENDPOINT} cannot be reached: {_first_line(cause)}. Check the network, and HF_ENDPOINT "
                "if it is set, and try again."
            )
        if isinstance(cause, httpx2.HTTPError):
            return f"The connection to {constants.ENDPOINT} broke several times: {_first_line(cause)}. {KEPT}"
    return _explain_disk(spec, causes)


def _explain_disk(spec: PipelineSpec | IPAdapterSpec, causes: list[BaseException]) -> str:
    numbers = {cause.errno: cause for cause in causes if isinstance(cause, OSError)}
    if any(number in numbers for number in _NO_ROOM):
        return (
            f"The disk is full. {spec.title} needs about {sum(spec.component_bytes.values()) / 1e9:.0f} GB in "
            f"{constants.HF_HUB_CACHE}. Make room, or point HF_HOME to a larger disk. {KEPT}"
        )
    if any(number in numbers for number in _NOT_ALLOWED):
        return (
            f"{constants.HF_HUB_CACHE} may not be written ({_first_line(causes[-1])}). Give this user the right to "
            "write there, or point HF_HOME to a folder of its own."
        )
    return f"The download stopped: {_first_line(causes[-1])}. {KEPT}"


def _explain_status(spec: PipelineSpec | IPAdapterSpec, error: HfHubHTTPError, has_token: bool) -> str:
    status, hub = error.response.status_code, error.response.url.host
    if isinstance(error, GatedRepoError) or (spec.gated and isinstance(error, RepositoryNotFoundError)):
        return _explain_gate(spec, has_token)
    if isinstance(error, RepositoryNotFoundError):
        return f"{hub} has no {spec.repo_id}, or it is private."
    if isinstance(error, RemoteEntryNotFoundError) or status == 404:
        return (
            f"{hub} has no {error.response.url.path}, although it is listed. The repository changed just now, or the "
            f"mirror is not complete. {KEPT}"
        )
    if status == 401:
        return f"{hub} does not accept the token (401): it is wrong or expired. Make a new one at {_TOKENS_PAGE}."
    if status == 403:
        return _explain_gate(spec, has_token) if spec.gated else f"{hub} forbids the download (403). {KEPT}"
    if status == 429:
        seconds = retry_after_seconds(error)
        wait = f"for {seconds} s" if seconds is not None else "for a while"
        return f"{hub} had too many requests from here (429). Wait {wait}, then run the command again. {KEPT}"
    if status >= 500 or status == 408:
        return f"{hub} has trouble of its own (it answers {status}). Try again later. {KEPT}"
    return f"{hub} refuses the download ({status}): {_first_line(error)}"


def _explain_gate(spec: PipelineSpec | IPAdapterSpec, has_token: bool) -> str:
    steps = [
        f"open {spec.licence_url} and accept its terms ({spec.licence})",
        f"make a token with read access at {_TOKENS_PAGE}",
        "put HF_TOKEN=hf_... into .env or the environment",
        f"run `flux-image pull {spec.name}` again",
    ]
    problem = (
        "the token that is set may not read it (terms not accepted, or the token is wrong)"
        if has_token
        else "no token is set (HF_TOKEN)"
    )
    numbered = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))
    return f"{spec.title} is gated, and {problem}.\n{numbered}"


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
