"""Whether there is room for more pictures; asked before a job is accepted, since a waiting job will need it."""

from __future__ import annotations

from shared.domain.errors import StorageFull
from shared.storage.base import MediaStorage


class Room:
    """Compares what the storage has left with what should stay free."""

    def __init__(self, storage: MediaStorage, min_free_bytes: int) -> None:
        self._storage = storage
        self._min_free_bytes = min_free_bytes

    def check(self) -> None:
        """Return if there is enough room.

        Raises:
          StorageFull: there is not.
          OSError: the storage does not say how much there is.
        """
        if trouble := self._shortage():
            raise StorageFull(
                f"No job is accepted: {trouble}. Free some room, or set FLUX_MIN_FREE_BYTES.",
                limit=self._min_free_bytes,
            )

    def trouble(self) -> str | None:
        """Return in words what is wrong with the storage, or ``None``."""
        try:
            return self._shortage()
        except OSError as error:
            return f"the media directory does not answer ({error.strerror or error})"

    def _shortage(self) -> str | None:
        free = self._storage.free_bytes()
        if free >= self._min_free_bytes:
            return None
        return f"{free / 2**20:.0f} MiB are free for pictures, {self._min_free_bytes / 2**20:.0f} MiB should be"
