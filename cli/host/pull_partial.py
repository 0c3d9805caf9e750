"""The part of a file that is on the disk already.

huggingface_hub throws a half file away when its download fails or dies (in 2.4 each try has a file name of its own),
and a shard of FLUX is 10 GB. Here every byte that came is written at once to one file beside its place,
``ETAG.incomplete``, where the next try and the next run of the command find it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from huggingface_hub import constants

from cli.host.pull_listing import RemoteFile
from cli.host.pull_progress import PullProgress
from cli.host.pull_refusals import PullRefused

_READ_BYTES: Final = 2**20


class PartialFile:
    """The bytes that came so far; each is on the disk when ``write`` returns, whatever happens to this process."""

    def __init__(self, blob: Path, file: RemoteFile, progress: PullProgress) -> None:
        self._blob = blob
        self._file = file
        self._progress = progress
        self.path = blob.with_name(f"{blob.name}.incomplete")
        self.size = 0

    def __enter__(self) -> Self:
        self._blob.parent.mkdir(parents=True, exist_ok=True)
        self._raw = self.path.open("a+b", buffering=0)
        self._begin()
        if os.fstat(self._raw.fileno()).st_size > self._file.size:
            self._raw.truncate(0)
        self._raw.seek(0)
        while chunk := self._raw.read(_READ_BYTES):
            self._count(chunk)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._raw.close()

    @property
    def is_complete(self) -> bool:
        """Whether every byte is here."""
        return self.size == self._file.size

    def write(self, chunk: bytes) -> None:
        """Append; bytes beyond the size that was listed are an error."""
        if self.size + len(chunk) > self._file.size:
            raise contradiction(self._file, "more bytes came")
        view = memoryview(chunk)
        while view:  # a file without a buffer may take less than it is given, at the end of a disk's room
            written = self._raw.write(view)
            self._count(view[:written])
            view = view[written:]

    def restart(self) -> None:
        """Forget what is here: the server cannot go on within a file."""
        self._raw.truncate(0)
        self._progress.add(-self.size)
        self._begin()

    def publish(self) -> None:
        """Check the content and give it its place.

        Raises:
          PullRefused: it is not what was listed; it is thrown away.
        """
        if self._digest.hexdigest() != self._file.etag:
            self.path.unlink()
            self._progress.add(-self.size)
            raise PullRefused(
                f"{self._file.path} is not what {constants.ENDPOINT} lists: its checksum is another. It was thrown "
                "away. Run the command again; if it stays so, the mirror is broken (HF_ENDPOINT)."
            )
        os.fsync(self._raw.fileno())
        self.path.replace(self._blob)

    def _begin(self) -> None:
        self.size = 0
        is_large = len(self._file.etag) == hashlib.sha256().digest_size * 2
        self._digest = hashlib.sha256() if is_large else hashlib.sha1(b"blob %d\0" % self._file.size)

    def _count(self, chunk: bytes | memoryview) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
        self._progress.add(len(chunk))


def is_here(blob: Path, file: RemoteFile) -> bool:
    """Whether a file is in its place, whole."""
    return blob.is_file() and blob.stat().st_size == file.size


def bytes_here(blob: Path, file: RemoteFile) -> int:
    """Return how many bytes of a file need not come again."""
    if is_here(blob, file):
        return file.size
    partial = blob.with_name(f"{blob.name}.incomplete")
    size = partial.stat().st_size if partial.is_file() else 0
    return size if size <= file.size else 0


def contradiction(file: RemoteFile, instead: str) -> PullRefused:
    """Return the refusal of a server that sends other sizes than it lists."""
    return PullRefused(
        f"{constants.ENDPOINT} contradicts itself about {file.path}: {file.size} bytes are listed, but {instead}. "
        "Run the command again; if it stays so, the mirror is broken (HF_ENDPOINT)."
    )
