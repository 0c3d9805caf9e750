"""One Space as a maker of pictures: connect, call, follow its queue and progress, fetch the result."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from PIL import Image

from shared.domain.errors import RemoteUnavailable, ServiceError
from shared.domain.space import check_space
from shared.domain.status import Phase
from worker.generators.flux_client.availability import Availability, AvailabilityRecord
from worker.generators.flux_client.choice import choose_endpoint
from worker.generators.flux_client.connection import SpaceConnection, open_connection
from worker.generators.flux_client.daemon import DaemonExecutor, wait_for
from worker.generators.flux_client.failures import translate
from worker.generators.flux_client.follow import Follower
from worker.generators.flux_client.pictures import warn_of_surprises, with_files
from worker.generators.flux_client.results import read_result
from worker.generators.flux_client.signature import Bound
from worker.generators.interface import GenerationContext, SilentContext

Result = TypeVar("Result")

_FETCH_SECONDS: Final = 60.0


class FluxImageGenerator:
    """Makes pictures on a Hugging Face Space or any other Gradio app. For one thread at a time.

    ``src`` is ``owner/name`` or a URL; ``token`` goes to the Space and, with an id, to the Hub, and nowhere else.
    ``api_name`` chooses an endpoint; by default ``/infer``, or the only one that fits.

    Raises:
      ValueError: ``src`` is neither, or the token would travel unencrypted.
    """

    def __init__(
        self,
        src: str,
        token: str | None = None,
        *,
        api_name: str | None = None,
        connect_seconds: float = 30.0,
        call_seconds: float = 600.0,
        hub_endpoint: str | None = None,
    ) -> None:
        self.src = check_space(src, with_token=token is not None)
        self._token = token
        self._public_name = None if "://" in src else src  # a private address is no business of who gets the picture
        self._api_name = api_name
        self._connect_seconds = connect_seconds
        self._call_seconds = call_seconds
        self._hub_endpoint = hub_endpoint
        self._connection: SpaceConnection | None = None
        self._record = AvailabilityRecord()

    def availability(self) -> Availability:
        """Return whether a call would make sense now, as far as is known; asks nobody."""
        return self._record.current()

    def connect(self, context: GenerationContext | None = None) -> SpaceConnection:
        """Connect anew and read what the Space offers: it may have been rebuilt since the last time.

        Raises:
          RemoteUnavailable: it does not answer in time, or is starting; says when to come back if that is known.
          RemoteRefused: it does not let us in, or is no Gradio app.
        """
        self.close()
        work = partial(
            open_connection, self.src, self._token, hub_endpoint=self._hub_endpoint, timeout=self._connect_seconds
        )
        future = DaemonExecutor().submit(work)
        try:
            self._connection = self._await(
                future, self._connect_seconds, (context or SilentContext()).raise_if_cancelled
            )
        except BaseException:
            future.add_done_callback(_close_late)
            raise
        self._record.answered()
        return self._connection

    def generate_image(
        self,
        prompt: str,
        *,
        context: GenerationContext | None = None,
        implied: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Image.Image:
        """Return one RGB picture. ``options`` have diffusers' names; ``image`` and ``mask`` are pictures.

        An option that the Space has no parameter for is refused, unless it equals its ``implied`` value.

        Raises:
          JobInterrupted: within a poll interval after ``context`` asked to stop; the Space is told.
          CapabilityError: the Space cannot do what is asked; nothing was sent.
          RemoteUnavailable, QuotaExceeded: not now.
          RemoteRefused, RemoteFailed: not at all.
        """
        context = context or SilentContext()
        connection = self._connection or self.connect(context)
        endpoint = choose_endpoint(connection.endpoints, self._api_name, {"prompt", *options})
        bound = endpoint.bind({"prompt": prompt, **options}, implied or {})
        for warning in bound.warnings:
            context.warn(warning)
        value = self._call(connection, endpoint.api_name, bound, context, options.get("num_inference_steps", 1))
        context.on_phase(Phase.DECODING)
        read = DaemonExecutor().submit(read_result, value, endpoint.outputs, connection.download)
        result = self._await(read, _FETCH_SECONDS, context.raise_if_cancelled)
        seed = endpoint.find("seed")
        sent_seed = bound.arguments.get(seed.name) if seed else None
        warn_of_surprises(result, options, sent_seed, context)
        context.on_details({"seed": sent_seed if result.seed is None else result.seed, "space": self._public_name})
        return result.image

    def close(self) -> None:
        """End the session, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _call(
        self, connection: SpaceConnection, api_name: str, bound: Bound, context: GenerationContext, total_steps: int
    ) -> Any:
        """Call the Space and return what it returns; whatever ends the wait early also cancels the call there."""
        follower = Follower(context, total_steps)
        with tempfile.TemporaryDirectory(prefix="flux-image-") as folder:
            try:
                job = connection.submit(api_name, with_files(bound.arguments, Path(folder)))
            except (TypeError, ValueError) as error:  # the client, too, compares the arguments with the description
                raise self._failure(error) from error
            try:
                value = self._await(
                    job.future, self._call_seconds, lambda: follower.report(job.status(), len(job.outputs()))
                )
            finally:
                if not job.done():
                    connection.cancel(job)
        follower.finished()
        return value

    def _await(self, future: Future[Result], seconds: float, on_poll: Callable[[], None]) -> Result:
        """Return the future's result, or raise what its error means; ``on_poll`` may raise to stop waiting."""
        if not wait_for(future, seconds, on_poll):
            raise self._failure(RemoteUnavailable(f"{self.src} did not answer within {seconds:g} s."))
        if error := future.exception():
            raise self._failure(error) from error
        return future.result()

    def _failure(self, error: BaseException) -> ServiceError:
        failure = translate(error, self.src)
        self._record.failed(failure)
        return failure


def _close_late(future: Future[SpaceConnection]) -> None:
    if future.exception() is None:
        future.result().close()
