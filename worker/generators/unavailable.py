"""Stands in when no generator can be made: every job ends in the reason, in words, instead of the worker dying."""

from __future__ import annotations

from typing import Unpack

from PIL import Image

from shared.domain.errors import ModelUnavailable
from shared.domain.precision import Precision
from worker.generators.interface import GenerationContext, GenerationOptions, ImageGeneratorInterface


class UnavailableGenerator(ImageGeneratorInterface):
    """Refuses everything for one reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def generate(
        self,
        prompt: str,  # noqa: ARG002
        *,
        context: GenerationContext | None = None,  # noqa: ARG002
        **options: Unpack[GenerationOptions],  # noqa: ARG002
    ) -> list[Image.Image]:
        """Raise ``ModelUnavailable`` with the reason."""
        raise ModelUnavailable(self._reason)

    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:  # noqa: ARG002
        """Raise ``ModelUnavailable`` with the reason."""
        raise ModelUnavailable(self._reason)
