"""A first-block cache skips steps only for the job that asked, and leaves nothing behind however that job ends."""

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from shared.catalog import CATALOG
from shared.domain.acceleration import FIRST_BLOCK_CACHE, StepCache
from shared.domain.errors import CapabilityError, OutOfMemory
from tests.contract.generators.conformance import RecordingContext
from tests.contract.small_card import OPTIONS, card, store_on
from worker.cancellation import JobInterrupted
from worker.generators.flux_local import FluxLocalGenerator

MODELS = ("demo-kontext", "demo-fill")
CACHED = {"step_cache": StepCache.FIRST_BLOCK, "step_cache_threshold": 0.9}
"""A threshold at which the demo models surely skip steps."""


class Context(RecordingContext):
    def __init__(self, **options):
        super().__init__(**options)
        self.accelerations = []

    def on_acceleration(self, acceleration):
        if acceleration not in self.accelerations:
            self.accelerations.append(acceleration)


@pytest.fixture(scope="module")
def store():
    return store_on(card(10**9))


@pytest.fixture
def generator(store):
    return FluxLocalGenerator(store)


@pytest.fixture
def tail_calls(store, request):
    """How often the last block computed, which a skipped step leaves out."""
    calls = []
    blocks = store.load(CATALOG[request.getfixturevalue("model")]).pipeline.transformer.single_transformer_blocks
    hook = blocks[-1].attn.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    hook.remove()


def paint(generator, model, **changes):
    options = {**OPTIONS[model], "num_inference_steps": 6, **changes}
    return np.asarray(generator.generate("make it green", model=model, **options)[0])


@pytest.mark.parametrize("model", MODELS)
def test_steps_are_skipped_and_the_result_says_so(generator, model, tail_calls):
    # Given the picture of a job without cache, which computes every step
    plain = paint(generator, model)
    assert len(tail_calls) == 6
    # When the same job asks for a cache
    context = Context()
    cached = paint(generator, model, context=context, **CACHED)
    # Then it computed fewer, told of all, and names what was used
    assert 6 < len(tail_calls) < 12
    assert [step for step, _ in context.steps] == [1, 2, 3, 4, 5, 6]
    assert context.accelerations == [FIRST_BLOCK_CACHE]
    assert not np.array_equal(plain, cached)


@pytest.mark.parametrize("model", MODELS)
def test_every_image_of_a_job_starts_with_an_empty_cache(generator, model):
    second = generator.generate(
        "make it green", model=model, **{**OPTIONS[model], "num_inference_steps": 6}, num_images=2, **CACHED
    )[1]
    alone = paint(generator, model, seed=OPTIONS[model]["seed"] + 1, **CACHED)
    assert np.array_equal(np.asarray(second), alone)


@pytest.mark.parametrize("model", MODELS)
class TestTheNextJobWithoutCache:
    """Its picture is equal to the last bit, and so are the model's own parts."""

    @pytest.fixture
    def plain(self, generator, model):
        return paint(generator, model)

    def assert_clean(self, generator, model, plain):
        transformer = generator.store.load(CATALOG[model]).pipeline.transformer
        assert not transformer.is_cache_enabled
        hooks = [module._diffusers_hook.hooks for module in transformer.modules() if hasattr(module, "_diffusers_hook")]
        assert not any(hooks)
        context = Context()
        assert np.array_equal(paint(generator, model, context=context), plain)
        assert context.accelerations == []

    def test_after_a_finished_job(self, generator, model, plain):
        paint(generator, model, **CACHED)
        self.assert_clean(generator, model, plain)

    def test_after_a_cancelled_one(self, generator, model, plain):
        with pytest.raises(JobInterrupted):
            paint(generator, model, context=Context(stop_at_step=3), **CACHED)
        self.assert_clean(generator, model, plain)

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), ValueError("broken")], ids=["oom", "error"])
    def test_after_one_that_failed_in_the_middle(self, generator, model, plain, error, monkeypatch):
        # Given a network that fails from the third step on
        steps, forward = [], FluxTransformer2DModel.forward

        def failing(*args, **kwargs):
            steps.append(1)
            if len(steps) > 2:
                raise error
            return forward(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(FluxTransformer2DModel, "forward", failing)
            with pytest.raises((OutOfMemory, ValueError)):
                paint(generator, model, **CACHED)
        self.assert_clean(FluxLocalGenerator(generator.store), model, plain)


@pytest.mark.parametrize("model", ["demo", "schnell"])
def test_a_model_of_few_steps_takes_none(generator, model):
    with pytest.raises(CapabilityError, match="takes no step cache") as refused:
        generator.generate("a red circle", model=model, step_cache=StepCache.FIRST_BLOCK)
    assert refused.value.details == {"field": "step_cache", "limit": ["off"]}
