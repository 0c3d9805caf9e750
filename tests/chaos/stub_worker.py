"""The real worker with a stand-in for the model that hangs, stays, dies or loses its device when its prompt says so.

``celery -A tests.chaos.stub_worker worker``. What is named in the prompt happens in the first attempt only, but for
``die``, which happens every time.
"""

import ctypes
import os
import signal
import threading

from PIL import Image

from shared.broker.app import make_celery
from shared.domain.errors import DeviceLost
from shared.domain.precision import Precision
from shared.domain.status import Phase
from shared.settings import WorkerSettings
from tests.factories import demo_report
from worker.generators.interface import ImageGeneratorInterface
from worker.tasks import WorkerProcess

STEP_SECONDS = 0.02
settings = WorkerSettings()
BROKEN = settings.data_dir / "broken"
"""While this file exists, the device fails every try without a job."""
GO_ON = settings.data_dir / "go on"
"""Until this file exists, a job that stays stays."""


def hang(_context):
    threading.Event().wait()


def hang_with_gil(_context):
    ctypes.PyDLL(None).sleep(3600)  # PyDLL, unlike CDLL, keeps the interpreter's lock


def freeze(_context):
    os.kill(os.getpid(), signal.SIGSTOP)


def stay(context):
    while not GO_ON.exists():
        threading.Event().wait(STEP_SECONDS)
        context.raise_if_cancelled()


def lose_device(_context):
    raise DeviceLost("The device failed: CUDA error: an illegal memory access was encountered")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {"hang": hang, "gil": hang_with_gil, "freeze": freeze, "stay": stay, "lost": lose_device}


class StubGenerator(ImageGeneratorInterface):
    def warm(self, model, precision=Precision.EXACT):
        return None

    def generate(self, prompt, *, context=None, **options):
        if context is None:
            if BROKEN.exists():
                raise RuntimeError("the device is broken")
            return []
        context.on_phase(Phase.DENOISING)
        for step in range(options["num_inference_steps"]):
            threading.Event().wait(STEP_SECONDS)
            context.on_step(step + 1, options["num_inference_steps"])
            if prompt == "die":
                die()
            if step == 1 and context.job.attempt == 1 and prompt in FAULTS:
                FAULTS[prompt](context)
        context.on_phase(Phase.DECODING)
        context.on_image(0, Image.new("RGB", (options["width"], options["height"]), "red"))
        return []


app = make_celery(settings.resolved_redis_url)
WorkerProcess(settings, lambda: (StubGenerator(), demo_report())).install(app)
