"""8- and 4-bit weights on a card; skipped, with a reason, where torch sees none."""

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.acceleration import CHANNELS_LAST_DECODE, FP8, FUSED_QKV, WEIGHTS_4_BIT, WEIGHTS_8_BIT
from shared.domain.precision import Precision
from worker.demo.checker import matches, read
from worker.demo.world import Scene, Thing
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.pipelines.device import pick_device
from worker.pipelines.device_memory import weights_of
from worker.pipelines.quantization import QuantizedLinear
from worker.pipelines.store import PipelineStore
from worker.pipelines.weight_formats import FP8_ROWWISE, INT8, NF4
from worker.pipelines.weights import Weights

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

QUANTIZED = (Precision.BALANCED, Precision.COMPACT)
RED_CIRCLE = Scene("blue", Thing("red", "circle", "large", "center"))
PROMPT = "a large red circle in the center on a blue background"


class Context(SilentContext):
    def __init__(self):
        self.accelerations = []

    def on_acceleration(self, acceleration):
        self.accelerations.append(acceleration)


@pytest.fixture(scope="module")
def device():
    return pick_device("cuda")


@pytest.fixture(scope="module", params=["off", "on"], ids=["resident", "cpu_offload"])
def generator(request, device):
    return FluxLocalGenerator(PipelineStore(Weights(), device, cpu_offload=request.param))


@pytest.fixture(scope="module")
def store(device):
    return PipelineStore(Weights(), device, cpu_offload="off")


@pytest.mark.parametrize("precision", QUANTIZED)
def test_a_picture_shows_what_was_asked_for_and_the_job_names_the_format(generator, device, precision):
    context = Context()
    picture = generator.generate(PROMPT, context=context, model="demo", precision=precision, seed=7)[0]
    assert all(matches(read(np.asarray(picture)), RED_CIRCLE).values())
    eight = [FP8, WEIGHTS_8_BIT] if device.has_fp8 else [WEIGHTS_8_BIT]
    formats = eight if precision is Precision.BALANCED else [WEIGHTS_4_BIT]
    assert context.accelerations == [*formats, FUSED_QKV, CHANNELS_LAST_DECODE]


def test_exact_is_untouched_by_the_others(generator):
    def paint(precision):
        return np.asarray(generator.generate(PROMPT, model="demo", precision=precision, seed=7)[0])

    before = paint(Precision.EXACT)
    for precision in QUANTIZED:
        first = paint(precision)
        assert np.array_equal(paint(Precision.EXACT), before)
        assert np.array_equal(paint(precision), first)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_what_comes_back_from_pinned_memory_is_equal_to_the_last_bit(store, precision):
    loaded = store.load(CATALOG["demo"], precision)
    before = [weight.clone() for weight in weights_of(loaded.pipeline.transformer)]
    assert {weight.device.type for weight in before} == {"cpu"}
    placement = store.place(loaded)
    store.residency.evict(store.residency.resident())
    with placement.denoising():
        torch.cuda.synchronize()
        after = [weight.cpu() for weight in weights_of(loaded.pipeline.transformer)]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("weight_format", [INT8, FP8_ROWWISE, NF4], ids=lambda found: found.name)
@torch.no_grad()
def test_the_card_s_product_is_near_the_host_s(device, weight_format):
    if weight_format is FP8_ROWWISE and not device.has_fp8:
        pytest.skip(f"{device.description} has no fp8")
    torch.manual_seed(3)
    layer = torch.nn.Linear(3072, 3072).to(torch.bfloat16)
    inputs = torch.randn(1, 512, 3072, dtype=torch.bfloat16)
    host = QuantizedLinear(layer, weight_format, torch.device("cpu"))(inputs)
    card = QuantizedLinear(layer, weight_format, device.torch_device).to(device.torch_device)(inputs.cuda()).cpu()
    assert ((card - host).abs().mean() / host.abs().mean()).item() < 0.01
