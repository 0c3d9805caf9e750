"""Compiled blocks: one set of code for all models and sizes, the ways out of it, and what jobs say about it.

What is compiled and how often is the tracer's doing (torch._dynamo), whatever makes machine code of it; so most tests
use a backend that makes none, which takes a second instead of a minute.
"""

import copy
import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from PIL import Image
from torch._dynamo.utils import counters

from shared.catalog import CATALOG
from shared.domain.acceleration import FIRST_BLOCK_CACHE, MODULATION_TABLE, REGIONAL_COMPILE, StepCache
from shared.domain.errors import DeviceLost, OutOfMemory
from shared.domain.precision import Precision
from shared.domain.report import ChoiceReport, SpeedReport
from tests.contract.small_card import OPTIONS, RED, ROOM_FOR_ONE, card, shared_bytes
from tests.contract.test_step_cache import Context
from worker.cancellation import JobInterrupted
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.compiling import CompiledBlocks, repeated_blocks, variants
from worker.pipelines.modulation import modulation_blocks
from worker.pipelines.speed import Speed
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

MODELS = ("demo", "demo-kontext", "demo-fill")
ON = SpeedReport(
    compile=ChoiceReport(value="on", reason="a test"), attention=ChoiceReport(value="native", reason="a test")
)
pytestmark = pytest.mark.timeout(600)


def generator_on(device, backend="eager"):
    speed = Speed(ON, backend)
    return FluxLocalGenerator(PipelineStore(Weights(), device, cpu_offload="off", speed=speed))


def paint(generator, model, context=None, **changes):
    pictures = generator.generate("a red circle", context=context, model=model, **{**OPTIONS[model], **changes})
    return np.asarray(pictures[0])


def sized(model, width, height):
    pictures = {"image": Image.new("RGB", (width, height), "red"), "mask": Image.new("L", (width, height), 255)}
    return {"width": width, "height": height, **{name: pictures[name] for name in pictures if name in OPTIONS[model]}}


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_compiled():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def roomy():
    return generator_on(card(10**9, dtype=torch.float32))


class TestOneSetOfCode:
    def test_two_warmed_sizes_of_one_model_serve_every_size_of_every_model(self, roomy):
        # Given a worker that has warmed its default model
        roomy.warm("demo")
        warmed = graphs()
        assert warmed > 0
        # When jobs of all kinds and of other sizes come, and one that starts from a picture
        context = Context()
        for model in MODELS:
            for width, height in ((64, 64), (80, 64), (64, 208), (256, 256)):
                paint(roomy, model, context, **sized(model, width, height))
        paint(roomy, "demo", context, image=RED, strength=0.6)
        # Then nothing was compiled anew, nothing went wrong, and the result says how it was made
        assert graphs() == warmed
        assert context.warnings == []
        assert context.accelerations == [REGIONAL_COMPILE]

    def test_the_modulation_table_is_compiled_once_for_all_jobs_and_steps(self):
        # Given a card on which models take turns and read their modulation from a table
        transformer = CATALOG["demo"].component_bytes["transformer"]
        tight = generator_on(card(shared_bytes() + transformer - 1000))
        context = Context()
        paint(tight, "demo", context)
        paint(tight, "demo", context, width=80, height=64)
        compiled = graphs()
        # When more jobs come, each with a table of its own
        for seed in range(3):
            paint(tight, "demo", context, seed=seed, num_inference_steps=3, width=64, height=96)
        # Then the code is the same, and the picture is that of a compiled model without a table
        assert graphs() == compiled
        assert context.warnings == []
        assert context.accelerations == [MODULATION_TABLE, REGIONAL_COMPILE]
        roomy = generator_on(card(10**9))
        assert np.array_equal(paint(tight, "demo"), paint(roomy, "demo"))

    def test_weights_that_come_and_go_change_nothing(self):
        # Given a card with room for one model, which was used in turns
        small = generator_on(card(ROOM_FOR_ONE))
        before = [paint(small, model) for model in MODELS]
        compiled = graphs()
        # When each comes back, then from the same code comes the same picture
        after = [paint(small, model) for model in MODELS]
        assert all(small.store.residency.brought[model] == 2 for model in MODELS)
        assert graphs() == compiled
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    def test_prompts_of_other_lengths_need_no_other_code(self):
        # Given a transformer that has seen two sizes; FLUX.1 [schnell] reads 256 tokens and the others 512
        transformer = FluxTransformer2DModel(**SMALLEST).eval()
        CompiledBlocks(transformer, "eager")
        for picture_tokens in (12, 20):
            forward(transformer, picture_tokens, 7)
        seen = graphs()
        # When other lengths come, one as long as the picture
        for lengths in ((12, 9), (40, 5), (9, 9)):
            forward(transformer, *lengths)
        assert graphs() == seen

    def test_a_picture_does_not_depend_on_the_sizes_before_it(self, roomy):
        first = paint(roomy, "demo")
        paint(roomy, "demo", width=96, height=80)
        assert np.array_equal(first, paint(roomy, "demo"))

    def test_no_wait_for_weights_is_inside_of_a_compiled_block(self, roomy):
        # Torch leaves out hooks that were added to compiled code; the copies of a card wait in such hooks.
        transformer = roomy.store.load(CATALOG["demo"]).pipeline.transformer
        blocks = list(repeated_blocks(transformer))
        inside = {part for block in blocks for part in block.modules()} - set(blocks)
        doors = [block.door for block in modulation_blocks(transformer)]
        assert set(blocks) < set(doors)
        assert not inside & set(doors)


class TestManyVariants:
    """Torch gives up after 8 variants of one function, which so many models, sizes and tables soon reach."""

    def test_a_torch_that_takes_the_limit_as_an_argument_gets_it(self):
        assert variants(torch.compile) == {"recompile_limit": 64}

    def test_an_older_torch_has_it_set_for_the_whole_process_and_a_larger_one_stays(self):
        def compile_of_older_torch(model, *, backend, dynamic, fullgraph):
            """Never called: its parameters are looked at."""

        for before, after in ((8, 64), (100, 100)):
            with torch._dynamo.config.patch(recompile_limit=before):
                assert variants(compile_of_older_torch) == {}
                assert torch._dynamo.config.recompile_limit == after


class TestWithTheRestOfAJob:
    def test_a_cancel_leaves_compiled_code_as_it_was(self, roomy):
        before, context = paint(roomy, "demo"), Context()
        with pytest.raises(JobInterrupted):
            paint(roomy, "demo", Context(stop_at_step=1), seed=8)
        assert np.array_equal(before, paint(roomy, "demo", context))
        assert context.accelerations == [REGIONAL_COMPILE]

    def test_another_attention_backend_is_compiled_too(self):
        # Given blocks that ask for one of torch's kernels by name, as `_native_cudnn` does on a card
        transformer = FluxTransformer2DModel(**SMALLEST).eval()
        plain = forward(transformer)
        transformer.set_attention_backend("_native_math")
        blocks = CompiledBlocks(transformer, "eager")
        # Then they are whole graphs, and compute the same
        assert torch.allclose(forward(transformer), plain, atol=1e-5)
        assert (blocks.trouble, blocks.calls) == (None, 2)

    def test_a_step_cache_is_around_the_compiled_blocks(self, roomy):
        # Given compiled code, and a job that skips steps
        plain = paint(roomy, "demo-kontext", num_inference_steps=6)
        compiled, context = graphs(), Context()
        cached = {"num_inference_steps": 6, "step_cache": StepCache.FIRST_BLOCK, "step_cache_threshold": 0.9}
        skipped = paint(roomy, "demo-kontext", context, **cached)
        # Then nothing was compiled for it, it did skip, and the next job knows nothing of it
        assert graphs() == compiled
        assert context.accelerations == [FIRST_BLOCK_CACHE, REGIONAL_COMPILE]
        assert not np.array_equal(plain, skipped)
        assert np.array_equal(plain, paint(roomy, "demo-kontext", num_inference_steps=6))


class TestFewerBits:
    @pytest.mark.parametrize("precision", [Precision.BALANCED, Precision.COMPACT])
    def test_quantized_weights_are_compiled_too(self, precision):
        context = Context()
        paint(generator_on(card(10**9)), "demo", context, precision=precision)
        assert context.warnings == []
        assert REGIONAL_COMPILE in context.accelerations


class TestWhatCannotBeCompiled:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfMemory),
            ("Triton Error [CUDA]: an illegal memory access was encountered", DeviceLost),
        ],
    )
    def test_a_full_or_a_lost_card_is_no_fault_of_the_compiler(self, text, expected):
        # Given a compiler that finds the card so while it makes code
        def unlucky(_graph, _inputs):
            raise RuntimeError(text)

        generator = generator_on(card(10**9), unlucky)
        # Then the job ends so, and nothing runs uncompiled for good because of it
        with pytest.raises(expected):
            paint(generator, "demo")
        assert generator.store.speed.warning(generator.store.load(CATALOG["demo"]).pipeline.transformer) is None

    def test_a_compiler_that_fails_costs_a_warning_and_no_job(self):
        # Given a compiler that is broken, and the picture of a worker that does not compile
        def broken(_graph, _inputs):
            raise RuntimeError("no code for you")

        generator = generator_on(card(10**9), broken)
        plain = FluxLocalGenerator(PipelineStore(Weights(), card(10**9), cpu_offload="off"))
        # When two jobs run
        for _ in range(2):
            context = Context()
            picture = paint(generator, "demo", context)
            # Then each has the plain picture and says why
            assert np.array_equal(picture, paint(plain, "demo"))
            assert context.accelerations == []
            assert len(context.warnings) == 1
            assert "ran uncompiled" in context.warnings[0]
            assert "no code for you" in context.warnings[0]

    def test_a_fault_of_the_job_is_not_blamed_on_the_compiler(self, roomy):
        # Given a block that fails, compiled or not
        transformer = roomy.store.load(CATALOG["demo"]).pipeline.transformer
        attention, kept = transformer.transformer_blocks[0].attn, transformer.transformer_blocks[0].attn.to_q
        attention.to_q = torch.nn.Linear(3, 3)
        with pytest.raises(RuntimeError, match="shape"):
            paint(roomy, "demo")
        # When it works again, then it is compiled
        attention.to_q = kept
        context = Context()
        paint(roomy, "demo", context)
        assert context.accelerations == [REGIONAL_COMPILE]
        assert context.warnings == []


# Torch 2.13 uses its own old script_method in the compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="no C++ compiler with Python's headers",
)
def test_machine_code_makes_nearly_the_same_latents_and_is_found_again(tmp_path, monkeypatch):
    """Inductor itself, and its cache in a directory of ours: the same process after a reset is as one that restarts."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    counters.clear()
    # Given a transformer with one block of each kind, and what it puts out uncompiled
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(**SMALLEST).eval()
    plain = forward(transformer)
    # When it is compiled
    first = compiled(transformer)
    assert counters["inductor"]["fxgraph_cache_miss"] == 2
    assert torch.allclose(first, plain, atol=1e-5)
    # And again when everything that is in memory is gone, then all code is read from the directory
    torch.compiler.reset()
    counters.clear()
    again = compiled(transformer)
    assert (counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"]) == (0, 2)
    assert torch.equal(first, again)


SMALLEST = {
    "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 32, "pooled_projection_dim": 16, "axes_dims_rope": (4, 4, 8),
}  # fmt: skip


def compiled(transformer):
    fresh = copy.deepcopy(transformer)
    blocks = CompiledBlocks(fresh)
    made = forward(fresh)
    assert (blocks.trouble, blocks.calls) == (None, 2)
    return made


@torch.no_grad()
def forward(transformer, picture_tokens=12, text_tokens=7):
    random = torch.Generator().manual_seed(1)
    return transformer(
        hidden_states=torch.randn(1, picture_tokens, 16, generator=random),
        encoder_hidden_states=torch.randn(1, text_tokens, 32, generator=random),
        pooled_projections=torch.randn(1, 16, generator=random),
        timestep=torch.tensor([0.5]),
        img_ids=torch.zeros(picture_tokens, 3),
        txt_ids=torch.zeros(text_tokens, 3),
        joint_attention_kwargs={},
        return_dict=False,
    )[0]
