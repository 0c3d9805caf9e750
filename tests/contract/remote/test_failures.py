"""The words of Spaces, the Hub and the network, as errors that say what to do and when to come back."""

from concurrent.futures import CancelledError

import httpx
import pytest
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError, TooManyRequestsError

from shared.domain.errors import CapabilityError, QuotaExceeded, RemoteFailed, RemoteRefused, RemoteUnavailable
from worker.generators.flux_client.failures import translate


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("You have exceeded your GPU quota (60s requested vs. 0s left). Try again in 0:09:48", 588),
        ("You have exceeded your GPU quota (46s left vs. 60s requested). Sign-up or retry in 2:05:11.", 7511),
        ("You have exceeded your free ZeroGPU quota (60s requested vs. 0s left). Try again in 1 day, 0:00:01", 86_401),
        ("ZeroGPU quota exceeded", 3600),
        ("You have exceeded your GPU quota (60s requested vs. 56s left). <a href='x'>Create a free account</a>", 3600),
    ],
)
def test_each_wording_of_the_quota(words, seconds):
    error = translate(AppError(words), "someone/flux")
    assert isinstance(error, QuotaExceeded)
    assert error.retry_after_seconds == seconds
    assert "<" not in error.message


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (AppError("No GPU is currently available for you after 60s"), RemoteUnavailable, "No GPU"),
        (AppError("GPU task aborted"), RemoteUnavailable, "aborted"),
        (AppError("The picture was caught by the safety checker"), RemoteFailed, "filtered"),
        (AppError("prompt is too long"), RemoteFailed, "someone/flux failed: prompt is too long"),
        (QueueError("Queue is full! Please try again."), RemoteUnavailable, "queue of someone/flux is full"),
        (TooManyRequestsError("x"), RemoteUnavailable, "429"),
        (CancelledError(), RemoteUnavailable, "connection to someone/flux was lost"),
        (httpx.ReadTimeout("timed out"), RemoteUnavailable, "cannot be reached: timed out"),
        (ValueError("Server stopped."), RemoteUnavailable, "was stopped"),
        (KeyError("unexpected_error"), RemoteFailed, "does not answer as a Gradio app should"),
        (CapabilityError("ours"), CapabilityError, "ours"),
    ],
)
def test_what_else_may_be_raised(raised, kind, words):
    error = translate(raised, "someone/flux")
    assert type(error) is kind
    assert words in error.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, RemoteRefused), (403, RemoteRefused), (404, RemoteRefused), (413, RemoteFailed),
        (429, RemoteUnavailable), (500, RemoteUnavailable), (503, RemoteUnavailable),
    ],
)  # fmt: skip
def test_each_status(status, kind):
    request = httpx.Request("POST", "https://example.org/queue/join")
    error = translate(httpx.HTTPStatusError("no", request=request, response=httpx.Response(status)), "someone/flux")
    assert type(error) is kind
    assert str(status) in error.message
