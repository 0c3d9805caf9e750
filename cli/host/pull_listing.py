"""Which files of a repository a model needs, as the hub lists them, and where each belongs in the cache.

The cache's layout is Hugging Face's own, so that every program that uses it finds the files: ``blobs/ETAG`` holds the
bytes, ``snapshots/COMMIT/PATH`` links to them, ``refs/main`` names the commit (huggingface_hub's guide "Understand
caching").
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects

from cli.host.pull_refusals import PullRefused

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ETAG: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it; ``etag`` is the SHA-256 of a large file, git's SHA-1 of a small one."""

    path: str
    size: int
    """In bytes."""
    etag: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that are needed, at one commit of a repository."""

    repo_id: str
    commit: str
    files: tuple[RemoteFile, ...]


class CachedRepository:
    """One repository's folder in the Hugging Face cache."""

    def __init__(self, cache: Path, repo_id: str) -> None:
        name = "--".join(("models", *repo_id.split("/")))
        self._root = cache / name
        self.lock_path = cache / ".locks" / name / "flux-image-pull.lock"

    def blob(self, file: RemoteFile) -> Path:
        """Return where the bytes of a file are kept."""
        return self._root / "blobs" / file.etag

    def places(self, listing: Listing) -> dict[Path, RemoteFile]:
        """Return where the bytes belong; files of equal bytes have one place."""
        return {self.blob(file): file for file in listing.files}

    def publish(self, listing: Listing) -> Path:
        """Link the files, which are all here, into a snapshot; return it. Until the end the last one is in force."""
        snapshot = self._root / "snapshots" / listing.commit
        for file in listing.files:
            link = snapshot / file.path
            target = os.path.relpath(self.blob(file), link.parent)
            if link.is_symlink() and str(link.readlink()) == target:
                continue
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        ref = self._root / "refs" / "main"
        ref.parent.mkdir(exist_ok=True)
        new = ref.with_suffix(".new")
        new.write_text(listing.commit)
        new.replace(ref)
        return snapshot


def list_files(repo_id: str, patterns: Sequence[str], token: str | None, timeout_seconds: float) -> Listing:
    """Ask the hub for the files of a repository that match one of the patterns.

    Raises:
      PullRefused: what it answers is no list of files to rely on.
      HfHubHTTPError, httpx2.TransportError: it refuses, or cannot be reached.
    """
    try:
        info = HfApi(token=token or False).model_info(repo_id, files_metadata=True, timeout=timeout_seconds)
    except HfHubHTTPError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise PullRefused.no_hub(error) from error
    files = tuple(
        RemoteFile(
            sibling.rfilename,
            sibling.size if sibling.size is not None else -1,
            (sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or "",
        )
        for sibling in filter_repo_objects(
            info.siblings or (), allow_patterns=list(patterns), key=lambda sibling: sibling.rfilename
        )
    )
    if not files:
        raise PullRefused(f"{repo_id} lists none of the files that are needed ({', '.join(patterns)}).")
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit) or not all(map(_is_sound, files)):
        raise PullRefused(f"The list of files of {repo_id} makes no sense: a name, size or checksum in it is wrong.")
    return Listing(repo_id, commit, files)


def _is_sound(file: RemoteFile) -> bool:
    """Whether a name stays inside its folder, and size and checksum are what they should be."""
    path = PurePosixPath(file.path)
    is_inside = not path.is_absolute() and ".." not in path.parts
    return is_inside and file.size >= 0 and _ETAG.fullmatch(file.etag) is not None
