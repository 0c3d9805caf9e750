"""`flux-image pull MODEL`: the only place that downloads weights, with every refusal explained in words."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from cli.host.pull_listing import CachedRepository, RemoteFile, list_files
from cli.host.pull_partial import bytes_here
from cli.host.pull_patience import Patience, Stopped
from cli.host.pull_progress import PullProgress, amount
from cli.host.pull_refusals import KEPT, PullRefused, explain, saved_token
from cli.host.pull_transfer import Transfer
from shared.catalog import find_download
from shared.domain.adapter import IPAdapterSpec
from shared.domain.errors import UnknownModel
from shared.domain.model import PipelineSpec
from shared.settings import HubSettings
from shared.weights import find_weights

EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
_AT_ONCE: Final = 4
"""Files that are fetched at the same time."""


def run_pull(model: str) -> int:
    """Download a model or an adapter; return the exit code. Interrupted downloads go on where they stopped."""
    try:
        spec = find_download(model)
    except UnknownModel as error:
        print(error.message, file=sys.stderr)
        return EXIT_USAGE
    if not spec.downloads:
        print(f"{spec.title} comes with the project; there is nothing to download.")
        return 0
    settings = HubSettings()
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    try:
        token = token or saved_token()
        folders = [_pull(spec.title, repo_id, patterns, token) for repo_id, patterns in spec.downloads.items()]
    except KeyboardInterrupt:
        print(f"Stopped. {KEPT}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (PullRefused, HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        print(explain(spec, error, token=token), file=sys.stderr)
        return EXIT_REFUSED
    if lack := find_weights(spec).problem:
        print(f"{spec.title}: {lack}, although the download ended well. Run the same command again.", file=sys.stderr)
        return EXIT_REFUSED
    print(f"{spec.title} is in {' and '.join(map(str, folders))}. {_next_step(spec)}")
    return 0


def _pull(title: str, repo_id: str, patterns: Sequence[str], token: str | None) -> Path:
    """Bring the files of one repository into the Hugging Face cache; return the folder."""
    patience = Patience()
    listing = patience.insist(
        lambda: list_files(repo_id, patterns, token, patience.silence_seconds),
        lambda message: print(message, file=sys.stderr),
    )
    cached = CachedRepository(Path(constants.HF_HUB_CACHE), repo_id)
    with _only_one(cached.lock_path):
        places = cached.places(listing)
        here = sum(bytes_here(blob, file) for blob, file in places.items())
        total = sum(file.size for file in places.values())
        _check_room(repo_id, total - here)
        with PullProgress(title, total) as progress:
            if here:
                progress.say(f"{title}: {amount(here)} of {amount(total)} are here already ({100 * here // total} %)")
            _fetch_all(places, Transfer(repo_id, listing.commit, token, patience, progress), patience)
        return cached.publish(listing)


def _fetch_all(places: Mapping[Path, RemoteFile], transfer: Transfer, patience: Patience) -> None:
    """Fetch several files at a time; the first error ends all of them, with what came on the disk."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pull") as pool:
        running = [pool.submit(transfer.fetch, file, blob) for blob, file in places.items()]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        finally:
            patience.stop.set()
            pool.shutdown(cancel_futures=True)
        errors = [error for future in done if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
            raise error


def _check_room(repo_id: str, missing: int) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(cache).free
    if missing > free:
        raise PullRefused(
            f"There is no room: {repo_id} needs {amount(missing)} more in {cache}, and {amount(free)} are "
            "free. Make room, or point HF_HOME to a larger disk."
        )


@contextmanager
def _only_one(lock_path: Path) -> Iterator[None]:
    """Hold a repository's downloads for the length of a block; two at once would write into the same files."""
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise PullRefused("Another `flux-image pull` fetches the same files now. Wait until it is done.") from error
    finally:
        os.close(descriptor)


def _next_step(spec: PipelineSpec | IPAdapterSpec) -> str:
    if isinstance(spec, IPAdapterSpec):
        return "Jobs that send a `reference` picture can use it now."
    adapter = spec.capabilities.ip_adapter
    more = f" For reference pictures, also run `flux-image pull {adapter.name}`." if adapter else ""
    return f"Restart the worker to make it the default, or name it: model={spec.model}.{more}"
