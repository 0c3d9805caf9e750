"""A generator that does what the test says, and how to take one job to its end with it."""

from PIL import Image

from shared.domain.precision import Precision
from shared.domain.status import Phase
from worker.generators.interface import ImageGeneratorInterface

PAINTED = Image.linear_gradient("L").resize((8, 8)).convert("RGB")


class ScriptedGenerator(ImageGeneratorInterface):
    """Calls ``script(context)`` and returns nothing; the context is the real one."""

    def __init__(self, script):
        self._script = script

    def generate(self, prompt, *, context=None, **options):
        self._script(context)
        return []

    def warm(self, model, precision=Precision.EXACT):
        return None


def run_to_its_end(runner):
    """Run the next job, wait until it is saved, and return the line for Flower."""
    line = runner.run_next()
    runner.close()
    return line


def paint(context, count=1, start=0):
    for index in range(start, start + count):
        context.on_phase(Phase.DECODING)
        context.on_image(index, PAINTED)
