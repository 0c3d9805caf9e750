"""Secrets as people paste them: stripped, checked, and never shown, also not in the words that refuse one."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, SecretStr

_HIDDEN: Final = "***"
_USER: Final = re.compile(r"(?<=://)[^/?#]*@")
_PARAMETER: Final = re.compile(r"(?<=[?&])(password|passwd|pwd|token|key|api[_-]?key|secret)=[^&#]*", re.IGNORECASE)


def clean_token(value: object) -> object:
    """Return a token without the blanks and line breaks around it; ``None`` if nothing is left.

    Raises:
      ValueError: it holds what no HTTP header carries: a blank, a control character or a letter outside of ASCII
        (RFC 6750, section 2.1). The message does not show it.
    """
    text = _text(value)
    if text is None:
        return value
    text = text.strip()
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("it holds a blank, a line break or a letter outside of ASCII; copy it again, in one piece")
    return text or None


def clean_url(value: object) -> object:
    """Return a URL that may hold a password without the blanks and line breaks around it; ``None`` if nothing is left.

    Raises:
      ValueError: it is no URL of one host and one port, or holds control characters. The message does not show it.
    """
    text = _text(value)
    if text is None:
        return value
    text = text.strip()
    if not text:
        return None
    if not all(character.isprintable() for character in text):
        raise ValueError("it holds a line break or another control character; copy it again, in one line")
    _check_parts(text)
    return text


def public_url(url: str) -> str:
    """Return a URL as it may be shown: without user name, password and the parameters that hold a secret."""
    return _PARAMETER.sub(rf"\1={_HIDDEN}", _USER.sub(f"{_HIDDEN}@", url))


SecretToken = Annotated[SecretStr | None, BeforeValidator(clean_token)]
SecretUrl = Annotated[SecretStr | None, BeforeValidator(clean_url)]


def _text(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, str) else None


def _check_parts(url: str) -> None:
    advice = "write the special characters of its password in percent form, such as %2F for /, %23 for # and %3F for ?"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"it cannot be read as a URL; {advice}") from None
    if not parts.scheme or "://" not in url:
        raise ValueError("it is no URL; one begins with its scheme, such as redis:// or sqlite:///")
    if _is_cut(parts):
        raise ValueError(f"its host cannot be told from its password; {advice}")


def _is_cut(parts: SplitResult) -> bool:
    """Return whether a special character of a password ended the part of the URL that names the host."""
    return bool(parts.netloc) and (
        "@" in parts.fragment or ("@" not in parts.netloc and "@" in parts.path + parts.query)
    )
