"""What this machine's device can do about precision, with the demo family."""

import pytest

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError
from shared.domain.precision import Precision
from shared.settings import WorkerSettings
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.device import pick_device
from worker.pipelines.planning import precision_report
from worker.pipelines.selection import worker_report
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

FAST = {"model": "demo", "width": 64, "height": 64, "num_inference_steps": 1, "seed": 7}


class Context(SilentContext):
    def __init__(self):
        self.accelerations = []

    def on_acceleration(self, acceleration):
        self.accelerations.append(acceleration)


@pytest.fixture(scope="module")
def generator():
    return FluxLocalGenerator(PipelineStore(Weights(), pick_device("cpu")))


def settings(tmp_path, **changes):
    return WorkerSettings(_env_file=None, data_dir=tmp_path, device="cpu", **changes)


def test_a_cpu_computes_exactly_and_uses_no_acceleration(generator):
    context = Context()
    generator.generate("a red circle", context=context, **FAST, precision=Precision.EXACT)
    assert context.accelerations == []


@pytest.mark.parametrize("precision", [Precision.BALANCED, Precision.COMPACT])
def test_a_cpu_refuses_fewer_bits_before_anything_is_computed(generator, precision):
    with pytest.raises(CapabilityError, match="only exact works") as refused:
        generator.generate("a red circle", **FAST, precision=precision)
    assert refused.value.details["field"] == "precision"


def test_a_setting_that_the_device_cannot_is_overruled_and_said_so(tmp_path):
    report = precision_report(CATALOG["demo"], pick_device("cpu"), settings(tmp_path, precision="compact"))
    assert report.default is Precision.EXACT
    assert report.reason.startswith("FLUX_PRECISION=compact is not possible")


def test_the_worker_publishes_its_plan(tmp_path):
    report = worker_report(settings(tmp_path), pick_device("cpu"), Weights())
    assert report.plan.warm == ("demo", "demo-kontext", "demo-fill")
    assert report.plan.peak_bytes < report.plan.usable_bytes
    assert "every model stays warm" in report.plan.reason
