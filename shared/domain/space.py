"""How a remote Space is named, and where its token may travel."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from shared.domain.addresses import is_loopback

_SPACE_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


def is_url(space: str) -> bool:
    """Return whether ``space`` is the URL of a Gradio app, rather than the id of a Hugging Face Space."""
    return space.startswith(("https://", "http://"))


def check_space(space: str, *, with_token: bool = False) -> str:
    """Return ``space`` if it is ``owner/name`` or a URL that may be called.

    Raises:
      ValueError: it is neither, or a token would travel unencrypted.
    """
    if not is_url(space):
        if not _SPACE_ID.fullmatch(space):
            raise ValueError(f"{space!r} is neither a Space (owner/name) nor a URL (https://...)")
        return space
    parts = urlsplit(space)
    if not parts.hostname:
        raise ValueError(f"{space!r} names no host")
    if parts.username is not None:
        raise ValueError("the Space's URL holds a user name or a password; neither is sent")
    if with_token and parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"a token would travel unencrypted to {parts.hostname}; use https")
    return space
