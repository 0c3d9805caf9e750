"""Text of others on a terminal: shown as it is, whatever it holds."""

from __future__ import annotations

from rich.text import Text


def plain(text: object) -> Text:
    """Return text in which nothing is markup, and control characters, which steer a terminal, are spelled out."""
    return Text(visible(str(text)))


def visible(text: str) -> str:
    """Return text whose control characters and lone surrogates are spelled out; line breaks between lines stay."""
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1] for character in text
    )
