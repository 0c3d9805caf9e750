"""Paths as people write them, and as they stand in the URLs of other libraries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

_IN_MEMORY: Final = ("", ":memory:")


def user_path(text: str | Path) -> Path:
    """Return a path as a person gave it: ``~`` is a home directory, a relative path starts at the working directory.

    Nothing else is expanded, since ``$`` and ``*`` are ordinary letters of a name.

    Raises:
      ValueError: there is no such home directory, or the name is not UTF-8, which URLs cannot hold.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"the home directory of {str(text)!r} is not known; give the whole path") from None
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name {str(path)!r} is not UTF-8; choose a directory whose name is") from None
    return path.absolute()


def sqlite_url(file: Path) -> str:
    """Return the URL of a SQLite file, quoted as SQLAlchemy 2.1 reads it (``make_url`` unquotes the database)."""
    return f"sqlite:///{quote(str(file))}"


def socket_url(socket: Path) -> str:
    """Return the URL of a broker on a Unix socket, quoted as redis-py and kombu read it."""
    return f"unix://{quote(str(socket))}"


def absolute_sqlite_url(url: str) -> str:
    """Return a database URL; if it names a SQLite file, that file as ``user_path`` reads it."""
    scheme, separator, rest = url.partition(":///")
    file, question_mark, query = rest.partition("?")
    database = unquote(file)
    if not separator or scheme.partition("+")[0] != "sqlite" or database in _IN_MEMORY or database.startswith("file:"):
        return url
    return f"{scheme}:///{quote(str(user_path(database)))}{question_mark}{query}"
