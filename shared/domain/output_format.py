"""File formats of finished pictures."""

from __future__ import annotations

from enum import StrEnum


class OutputFormat(StrEnum):
    """What a caller may ask for; the names are OpenAI's."""

    PNG = "png"
    """Lossless."""
    WEBP = "webp"
    """Quality 95: about a fifth of the PNG's size."""
    JPEG = "jpeg"
    """Quality 95, colours at full resolution: about a third of the PNG's size."""

    @property
    def content_type(self) -> str:
        """The media type."""
        return f"image/{self.value}"

    @property
    def suffix(self) -> str:
        """The end of a file's name, with its dot."""
        return ".jpg" if self is OutputFormat.JPEG else f".{self.value}"
