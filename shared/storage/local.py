"""Pictures in a directory: written beside their final name, synced, renamed, directory synced."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from shared.storage.base import MediaStorage

_CHECK_BYTES: Final = 8 * 2**20


class LocalMediaStorage(MediaStorage):
    """Files below one root. A crash in the middle of ``put`` leaves at most a hidden ``.tmp`` file."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._root.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: bytes) -> None:
        """Write durably; see ``MediaStorage.put``."""
        path = self._resolve(key)
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync_directory(path.parent.parent)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)

    def read(self, key: str) -> bytes:
        """Return the bytes; see ``MediaStorage.read``."""
        return self._resolve(key).read_bytes()

    def local_path(self, key: str) -> Path:
        """Return the file; see ``MediaStorage.local_path``."""
        return self._resolve(key)

    def keys_older_than(self, moment: datetime) -> Iterator[str]:
        """Yield old files' keys; see ``MediaStorage.keys_older_than``."""
        limit = moment.timestamp()
        for path in self._root.rglob("*"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                if path.is_file() and path.stat().st_mtime < limit:
                    yield str(path.relative_to(self._root))

    def check(self) -> None:
        """Store a file of the size of a large picture, and delete it again; see ``MediaStorage.check``."""
        key = f"check-{os.getpid()}.bin"
        self.put(key, bytes(_CHECK_BYTES))
        self.delete(key)

    def free_bytes(self) -> int:
        """Return the room on the disk of the root; see ``MediaStorage.free_bytes``."""
        return shutil.disk_usage(self._root).free

    def delete(self, key: str) -> None:
        """Remove the file, and its directory once that is empty."""
        path = self._resolve(key)
        path.unlink(missing_ok=True)
        if path.parent != self._root and path.parent.exists() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def _resolve(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if self._root not in path.parents:
            raise ValueError(f"media key {key!r} leaves the media directory")
        return path


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
