"""The next job's modulation table is made while the current one is denoised: when, how often, and never a wrong one."""

import itertools

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.job import NextJob
from shared.domain.status import Phase
from tests.contract.small_card import OPTIONS, RED, card, shared_bytes, store_on
from worker.cancellation import JobInterrupted, StopReason
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import SilentContext
from worker.generators.options import resolve_options
from worker.pipelines.conditioning import Conditioning, conditioning_of_call, expected_conditioning
from worker.pipelines.prompt_cache import prompt_key
from worker.pipelines.tables import MOST_TABLES

MODELS = ("demo", "demo-kontext", "demo-fill")
STARTED = {**OPTIONS["demo"], "num_inference_steps": 6, "image": RED, "strength": 0.5}


@pytest.fixture
def generator():
    """On a card with room for one denoiser of the family, without its modulation."""
    largest = max(CATALOG[model].component_bytes["transformer"] for model in MODELS)
    generator = FluxLocalGenerator(store_on(card(shared_bytes() + largest - 200_000)))
    for model in MODELS:  # a model that was never loaded is not prepared for
        generator.generate("warm", model=model, **OPTIONS[model])
    generator.store.tables.clear()
    generator.store.tables.made = 0
    return generator


@pytest.fixture(scope="module")
def roomy():
    return FluxLocalGenerator(store_on(card(10**9)))


def job(model, prompt, **changes):
    return {"prompt": prompt, "model": model, **OPTIONS[model], **changes}


def hint(options):
    asked = dict(options)
    params = resolve_options(CATALOG[asked["model"]], asked.pop("prompt"), asked)
    return NextJob(residency=asked["model"], params=params)


def run(generator, options, following=None, context=None):
    generator.expect(lambda: None if following is None else hint(following))
    return np.asarray(generator.generate(context=context, **options)[0])


class TestTheNextTable:
    @pytest.mark.parametrize("running", MODELS)
    @pytest.mark.parametrize(
        "following",
        [*(job(model, "a blue square") for model in MODELS), job("demo", "a blue square", **STARTED)],
        ids=[*MODELS, "demo from a picture"],
    )
    def test_it_is_ready_when_its_job_comes_and_the_pictures_are_the_same(self, generator, roomy, running, following):
        # Given a job that runs, and the hint of the next one
        tables = generator.store.tables
        first = run(generator, job(running, "a red circle"), following)
        assert (tables.made, tables.prepared) == (1, 1)
        # When that one comes, then its table is there, and no layer passes again
        passed = generator.store.residency.brought[f"{following['model']}/modulation"]
        second = run(generator, following)
        assert (tables.made, tables.prepared) == (1, 1)
        assert generator.store.residency.brought[f"{following['model']}/modulation"] == passed
        # And both are, to the last bit, what they are on a card with room for everything
        assert np.array_equal(first, run(roomy, job(running, "a red circle")))
        assert np.array_equal(second, run(roomy, following))

    def test_it_is_made_step_by_step(self, generator):
        # Given a job of four steps
        done, store = [], generator.store
        transformer = store.load(CATALOG["demo-fill"]).pipeline.transformer
        calls = [0]
        norms = [part for part in transformer.modules() if part.__class__.__name__.startswith("AdaLayerNorm")]
        hooks = [norm.linear.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1)) for norm in norms]

        class Context(SilentContext):
            def on_step(self, step, total_steps):
                done.append(calls[0])

        following = job("demo-fill", "a blue square")
        run(generator, job("demo", "a red circle", num_inference_steps=4), following, Context())
        for hook in hooks:
            hook.remove()
        # Then each step did its share of the next table's layers, and the last one finished it
        steps = following["num_inference_steps"]
        assert len(done) == 4
        assert done == sorted(done)
        assert 0 < done[0] < done[1] < done[3] == len(norms) * steps

    def test_nothing_of_it_stays_on_the_card_but_the_table(self, generator):
        run(generator, job("demo", "a red circle"), job("demo-fill", "a blue square"))
        assert "demo-fill/modulation" not in generator.store.residency.resident()
        linear = generator.store.load(CATALOG["demo-fill"]).pipeline.transformer.transformer_blocks[0].norm1.linear
        assert linear.weight.numel() == 0

    def test_the_next_prompt_is_encoded_while_the_encoders_are_there(self, generator):
        encoder = generator.store.load(CATALOG["demo"]).pipeline.text_encoder_2
        runs = []
        hook = encoder.register_forward_pre_hook(lambda *_: runs.append(1))
        following = job("demo-kontext", "a blue square")
        run(generator, job("demo", "a red circle"), following)
        assert len(runs) == 2
        run(generator, following)
        hook.remove()
        assert len(runs) == 2


class TestAWrongHint:
    @pytest.mark.parametrize(
        "change",
        [
            {"num_inference_steps": 3},
            {"guidance_scale": 5.0},
            {"prompt": "a green star"},
            {"model": "demo-fill", "mask": OPTIONS["demo-fill"]["mask"]},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_the_table_is_made_anew_whenever_anything_differs(self, generator, roomy, change):
        # Given a table for another job than the one that comes
        expected = job("demo-kontext", "a blue square")
        actual = {**expected, **change}
        run(generator, job("demo", "a red circle"), expected)
        # When that one comes, then its own table is made, and the picture is right
        came = run(generator, actual)
        tables = generator.store.tables
        assert (tables.made, tables.prepared) == (2, 1)
        assert np.array_equal(came, run(roomy, actual))

    def test_one_seed_or_another_is_the_same_table(self, generator):
        run(generator, job("demo", "a red circle"), job("demo", "a blue square", seed=1))
        run(generator, job("demo", "a blue square", seed=2))
        assert (generator.store.tables.made, generator.store.tables.prepared) == (1, 1)


class TestWhatIsExpected:
    """Of a job, from its parameters alone, against what its pipeline then calls the transformer with."""

    @pytest.mark.parametrize("shifting", [False, True], ids=["fixed shift", "shift by size"])
    @pytest.mark.parametrize(
        "options",
        [
            *(job(model, "x", width=128, height=192, num_inference_steps=7) for model in MODELS),
            *(job("demo", "x", **{**STARTED, "num_inference_steps": 7, "strength": part}) for part in (0.15, 0.6, 1)),
            job("demo-kontext", "x", guidance_scale=7.25, num_inference_steps=1),
        ],
        ids=lambda options: f"{options['model']} {options.get('strength', '')}",
    )
    def test_it_is_equal_to_the_last_bit(self, roomy, monkeypatch, options, shifting):
        loaded = roomy.store.load(CATALOG[options["model"]])
        pipeline = loaded.pipeline
        monkeypatch.setattr(
            pipeline,
            "scheduler",
            type(pipeline.scheduler).from_config(pipeline.scheduler.config, use_dynamic_shifting=shifting),
        )
        seen = []

        def look(_module, _args, call):
            if not seen:  # pipelines that start from a picture share scheduler and transformer with this one
                seen.append(conditioning_of_call(pipeline.scheduler, call).digest())

        hook = pipeline.transformer.register_forward_pre_hook(look, with_kwargs=True)
        run(roomy, options)
        hook.remove()
        expected = hint(options).params
        pooled = roomy.store.prompts.peek(prompt_key(loaded, "x")).pooled_prompt_embeds
        assert expected_conditioning(pipeline, expected, pooled).digest() == seen[0]


class TestBounds:
    def test_there_are_never_more_than_two(self, generator):
        tables = generator.store.tables
        queue = [job(MODELS[index % 3], f"picture {index}") for index in range(5)]
        for options, following in itertools.pairwise(queue):
            run(generator, options, following)
            assert len(tables._tables) <= MOST_TABLES
        assert (tables.made, tables.prepared) == (1, 4)

    def test_a_cancel_in_the_middle_leaves_no_layer_and_no_table(self, generator, roomy):
        # Given a job that is cancelled at its first step, while the next table is made
        class Cancelled(SilentContext):
            def on_step(self, step, total_steps):
                raise JobInterrupted(StopReason.USER_REQUEST)

        following = job("demo-fill", "a blue square")
        with pytest.raises(JobInterrupted):
            run(generator, job("demo", "a red circle", num_inference_steps=8), following, Cancelled())
        assert generator.store.tables.prepared == 0
        linear = generator.store.load(CATALOG["demo-fill"]).pipeline.transformer.transformer_blocks[0].norm1.linear
        assert linear.weight.numel() == 0
        # When the next one comes, then its table is made at its first step
        assert np.array_equal(run(generator, following), run(roomy, following))
        assert generator.store.tables.made == 2

    def test_out_of_memory_while_it_is_made_costs_the_running_job_nothing(self, generator, roomy, monkeypatch):
        def fail(self):
            raise torch.OutOfMemoryError("no room for the next job's table")

        class Context(SilentContext):
            def __init__(self):
                self.warnings = []

            def warn(self, message):
                self.warnings.append(message)

            def on_phase(self, phase):
                if phase is Phase.DENOISING:
                    monkeypatch.setattr(Conditioning, "of_each_step", fail)

        context = Context()
        run(generator, job("demo", "a red circle"))
        options = job("demo", "a red circle", seed=9)
        picture = run(generator, options, job("demo-fill", "a blue square"), context)
        assert np.array_equal(picture, run(roomy, options))
        assert context.warnings == []

    def test_out_of_memory_in_the_running_job_costs_the_next_one_its_table(self, generator, roomy):
        # Given a job whose decode runs out of memory once, when the next table is ready
        store, failed = generator.store, []
        decoder = store.load(CATALOG["demo"]).pipeline.vae.decoder

        def fail_once(*_):
            if not failed:
                failed.append(store.tables.prepared)
                raise torch.OutOfMemoryError("no room for the pixels")

        hook = decoder.register_forward_pre_hook(fail_once)
        options, following = job("demo", "a red circle"), job("demo-fill", "a blue square")
        picture = run(generator, options, following)
        hook.remove()
        # Then the memory of that table is given back, and its job makes it anew
        assert failed == [1]
        assert store.tables.made == 1
        assert np.array_equal(picture, run(roomy, options))
        assert np.array_equal(run(generator, following), run(roomy, following))
        assert store.tables.made == 2

    def test_with_room_for_everything_there_is_no_table_and_nothing_is_encoded_early(self, roomy):
        made = roomy.store.tables.made
        run(roomy, job("demo", "a red circle"), job("demo-fill", "words nobody used"))
        assert (roomy.store.tables.made, roomy.store.tables.prepared) == (made, 0)
