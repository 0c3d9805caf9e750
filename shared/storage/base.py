"""The seam between the application and the place where pictures are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path


class MediaStorage(ABC):
    """Keeps immutable files under keys such as ``job_.../1-0.png``."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` durably: after this returns, a power cut does not lose it."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return the bytes stored under ``key``.

        Raises:
          FileNotFoundError: nothing is stored under it.
        """

    @abstractmethod
    def local_path(self, key: str) -> Path | None:
        """Return the file behind ``key`` if it is on this machine, else ``None``."""

    @abstractmethod
    def keys_older_than(self, moment: datetime) -> Iterator[str]:
        """Yield the key of every stored file last written before ``moment``, unfinished ones included."""

    @abstractmethod
    def check(self) -> None:
        """Return if a picture could be stored right now.

        Raises:
          OSError: it could not: the disk is full, read-only, or gone.
        """

    @abstractmethod
    def free_bytes(self) -> int:
        """Return how many bytes of pictures have room yet.

        Raises:
          OSError: the storage does not answer.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove what is under ``key``; nothing there is no error."""
