"""Trouble of this machine, told apart from mistakes of the caller: no room, a disk that fails, no memory.

It may come up anywhere, also while a body is read into the temporary directory, where FastAPI takes every exception
for a body that cannot be parsed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError

from shared.domain.errors import ServiceError, StorageFull, Unavailable

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RETRY_SECONDS: Final = 5
_SQLITE_FULL: Final = "disk is full"


class StorageTrouble(Unavailable):
    """A disk of the server fails, or may not be written."""

    code = "storage_failed"


class DatabaseTrouble(Unavailable):
    """The database does not answer."""

    code = "database_unavailable"


class NoMemory(Unavailable):
    """The machine has no memory for this request now."""

    code = "no_memory"


def own_trouble(error: BaseException | None) -> ServiceError | None:
    """Return what to answer when ``error``, or what caused it, is the server's own trouble; else ``None``."""
    for cause in _causes(error):
        if isinstance(cause, MemoryError):
            return NoMemory(
                "The server has no memory for this request now; send it again soon.",
                retry_after_seconds=_RETRY_SECONDS,
            )
        if isinstance(cause, DBAPIError):
            return _database(cause)
        # A connection that ends is the caller's going away; without a number it is a parser's word about the data.
        if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ConnectionError):
            return _disk(cause)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _database(error: DBAPIError) -> ServiceError:
    if _SQLITE_FULL in str(error.orig):
        return StorageFull("The disk of the server's database is full. Free some room there, then send it again.")
    return DatabaseTrouble("The database does not answer; try again.", retry_after_seconds=_RETRY_SECONDS)


def _disk(error: OSError) -> ServiceError:
    if error.errno in _NO_ROOM:
        return StorageFull(
            f"The server has no room for this request ({error.strerror}). Free some room on the disks of its data "
            "directory and its temporary directory, then send it again."
        )
    return StorageTrouble(
        f"The server cannot use its files now ({error.strerror}). Send it again soon; if that does not help, look "
        "at the disks of its data directory and its temporary directory, and at its log.",
        retry_after_seconds=_RETRY_SECONDS,
    )
