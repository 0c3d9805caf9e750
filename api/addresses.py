"""Addresses in answers: below the path prefix under which this request came, if a proxy has put one before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_root_path: Final[ContextVar[str]] = ContextVar("root_path", default="")


def address(path: str) -> str:
    """Return ``path`` of this server as the caller has to write it."""
    return _root_path.get() + path


@contextmanager
def below(root_path: str) -> Iterator[None]:
    """Put ``root_path`` before every address that is made in this request, also in its threads."""
    token = _root_path.set(root_path)
    try:
        yield
    finally:
        _root_path.reset(token)
