"""An open session with one Gradio app through ``gradio_client``, kept on a short leash.

Three things the client does on its own are not let in here: sending a token that it finds on this machine, waiting
without end, and leaving files behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

import httpx
from gradio_client import Client
from gradio_client.client import Job

from shared.domain.addresses import is_own_url
from shared.domain.errors import RemoteFailed, RemoteRefused, ServiceError
from shared.domain.space import is_url
from worker.generators.flux_client.daemon import POLL_SECONDS, DaemonExecutor
from worker.generators.flux_client.failures import describe, from_status
from worker.generators.flux_client.hub import find_app
from worker.generators.flux_client.signature import Endpoint, read_endpoints

_SILENCE_SECONDS: Final = 60.0
"""Gradio sends a sign of life every 15 s; a connection that is silent for longer is dead."""
_PROTOCOLS: Final = ("sse_v1", "sse_v2", "sse_v2.1", "sse_v3")
_MAX_PICTURE_BYTES: Final = 64 * 2**20


class _Client(Client):  # type: ignore[misc]  # gradio_client has no types
    """Refuses old servers before it asks a service of Gradio's, as the client does, what their API might be."""

    def _get_api_info(self) -> Any:
        if self.protocol not in _PROTOCOLS:
            raise RemoteRefused(f"{self.src} runs Gradio {self.app_version}, which is too old for this server.")
        return super()._get_api_info()


class SpaceConnection:
    """What a call needs: the endpoints, a way to call them, and a way to fetch what they made."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # The client's own pools would keep the process alive for as long as the Space keeps a stream open.
        client.executor = client.helper_executor = client.stream_executor = DaemonExecutor()
        self.endpoints: list[Endpoint] = read_endpoints(client.view_api(print_info=False, return_format="dict"))

    def submit(self, api_name: str, arguments: Mapping[str, Any]) -> Job:
        """Start a call; local files in ``arguments`` are uploaded first."""
        return self._client.submit(api_name=api_name, **arguments)

    def download(self, reference: str) -> bytes:
        """Return a file of the Space, named by its path there or by its URL.

        Raises:
          RemoteFailed: it is on another host, which is none of this server's business, missing or too large.
          httpx.HTTPError: the Space does not answer.
        """
        url = reference if is_url(reference) else f"{self._client.src_prefixed}file={quote(reference)}"
        if _origin(url) != _origin(self._client.src):
            raise RemoteFailed(f"The Space's answer points to {urlsplit(url).hostname}; only its own host is read.")
        with httpx.stream(
            "GET",
            url,
            headers=self._client.headers,
            cookies=self._client.cookies,
            timeout=_SILENCE_SECONDS,
            trust_env=not is_own_url(url),
        ) as response:
            if response.is_client_error:
                raise RemoteFailed(f"The Space does not hand out its picture: {response.status_code}.")
            response.raise_for_status()
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > _MAX_PICTURE_BYTES:
                    raise RemoteFailed(f"The Space's picture is larger than {_MAX_PICTURE_BYTES} bytes.")
        return bytes(data)

    def cancel(self, job: Job) -> None:
        """Ask the Space to drop a call; returns at once."""

        def ask() -> None:
            # Until the Space has named the call, there is nothing to cancel.
            while job.communicator.event_id is None and not job.done():
                time.sleep(POLL_SECONDS)
            job.cancel()

        DaemonExecutor().submit(ask)

    def close(self) -> None:
        """End the session; returns at once."""
        DaemonExecutor().submit(self._client.close)


def open_connection(space: str, token: str | None, *, hub_endpoint: str | None, timeout: float) -> SpaceConnection:
    """Connect and read what the Space offers. May block for several times ``timeout``.

    Raises:
      ServiceError: the Space's state or its HTTP status says what is wrong.
      Exception: anything else that ``gradio_client`` and ``huggingface_hub`` raise.
    """
    # The client's argument of this name cannot switch it off, only the variable can.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    url = space if is_url(space) else find_app(space, token, hub_endpoint, timeout)
    try:
        client = _Client(
            url,
            # Not None, for which the client would send whatever token it finds on this machine.
            token=token or False,
            verbose=False,
            download_files=False,
            analytics_enabled=False,
            httpx_kwargs={
                "timeout": httpx.Timeout(_SILENCE_SECONDS, connect=timeout),
                "trust_env": not is_own_url(url),
            },
        )
    except (httpx.TransportError, ServiceError):
        raise
    except Exception as error:
        raise _explain(error, url, token, timeout) from error
    return SpaceConnection(client)


def _explain(error: Exception, url: str, token: str | None, timeout: float) -> ServiceError:
    """Return what the app's HTTP status says, which the client's errors leave out."""
    headers = {"x-hf-authorization": f"Bearer {token}"} if token else {}
    address = urljoin(f"{url.rstrip('/')}/", "config")
    response = httpx.get(address, headers=headers, timeout=timeout, trust_env=not is_own_url(url))
    if not response.is_success:
        return from_status(response.status_code, url)
    return RemoteRefused(f"{url} is no Gradio app that can be called: {describe(error)}.")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
