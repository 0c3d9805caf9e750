"""The two jobs that are painted: small, few steps, real layer widths."""

from dataclasses import dataclass
from pathlib import Path

SIDE = 256
STEPS = 2
SEED = 7
SOURCE = Path(__file__).resolve().parents[2] / "examples" / "images" / "red-circle.png"


@dataclass(frozen=True)
class PaintJob:
    model: str
    prompt: str
    guidance_scale: float
    is_edit: bool


JOBS = (
    PaintJob("schnell", "a red fox asleep in fresh snow", 0.0, is_edit=False),
    PaintJob("kontext", "make it a snowy winter evening", 2.5, is_edit=True),
)
