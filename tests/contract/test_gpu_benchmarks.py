"""The engine's benchmarks on the demo family: order, counts and equality; nothing here is timed."""

import itertools
import json

import pytest
import torch
from diffusers import FluxTransformer2DModel

from benchmarks.gpu import fit, fp8_step, switch
from benchmarks.gpu.__main__ import PARTS, run
from benchmarks.gpu.cold_start import phases
from benchmarks.gpu.family import mix, pick_subject
from benchmarks.gpu.image_time import skipping, stock_times
from benchmarks.gpu.jobs import run as run_job
from benchmarks.gpu.mixed_queue import room_for_one, run_queue
from benchmarks.gpu.rates import REPEATS, operations_of
from benchmarks.gpu.step_roofline import compiled, operations, step_times
from shared.catalog import CATALOG
from shared.domain.acceleration import StepCache
from worker.pipelines.compiling import repeated_blocks

without_card = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")


@without_card
def test_a_capped_queue_brings_a_model_in_at_every_switch_and_an_uncapped_one_never():
    # Given a mixed queue and a card with room for one model, after one job of each
    subject = pick_subject()
    order = list(mix(subject, 10))
    previous = [subject.models[-1], *order]
    switches = {m: sum(b == m != a for a, b in itertools.pairwise(previous)) for m in subject.models}
    # When it runs, capped and not
    small = pick_subject(room_for_one(subject))
    _, capped = run_queue(small, small.generator(), order, num_inference_steps=1)
    _, roomy = run_queue(subject, subject.generator(), order, num_inference_steps=1)
    # Then each switch moved its model once, and without a cap nothing moved
    assert capped == switches
    assert set(roomy.values()) == {0}


def test_the_mix_is_the_stated_one():
    subject = pick_subject()
    order = list(mix(subject, 30))
    kontext, fill = subject.models[-2:]
    assert (order.count(kontext), order.count(fill)) == (6, 3)


@without_card
@pytest.mark.parametrize("part", [switch, fp8_step, fit], ids=lambda part: part.__name__)
def test_what_needs_a_card_says_so_and_is_no_error(part, capsys):
    with pytest.raises(SystemExit) as ended:
        part.main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"skipped": "torch sees no CUDA device"}


def test_a_part_whose_result_is_there_is_not_run_again(tmp_path):
    result = tmp_path / "switch.json"
    result.write_text("{}")
    assert run("switch", result) == "there"
    assert set(PARTS) >= {"switch", "mixed_queue"}


@pytest.mark.parametrize(("side", "tflop"), [(512, 21.5), (768, 41.93), (1024, 74.38)])
def test_the_operations_of_a_step_are_those_of_the_closed_form(side, tflop):
    with torch.device("meta"):
        config = FluxTransformer2DModel(guidance_embeds=True).config
    counted = operations(config, (side // 16) ** 2, 512)
    tokens = (side // 16) ** 2 + 512
    assert counted == pytest.approx(operations_of(tokens), rel=0.001)
    assert counted / 1e12 == pytest.approx(tflop, rel=0.001)


@without_card
def test_a_step_is_timed_on_this_machine_too():
    subject = pick_subject()
    transformer = subject.store().load(CATALOG["demo"]).pipeline.transformer
    times = step_times(transformer, subject, picture_tokens=16, text_tokens=24, batch=2)
    assert len(times) == REPEATS
    assert min(times) > 0


def test_after_it_was_compiled_a_transformer_is_as_before():
    # Given a transformer whose blocks were compiled and ran
    subject = pick_subject()
    transformer = subject.transformer(subject.models[0])
    before = [dict(block.__dict__) for block in repeated_blocks(transformer)]
    with compiled(transformer):
        assert all("forward" in block.__dict__ for block in repeated_blocks(transformer))
    # Then the next measurement finds plain blocks
    assert [dict(block.__dict__) for block in repeated_blocks(transformer)] == before


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_fixed_share_of_the_steps_is_skipped_in_every_image(share):
    # Given a cache whose rule is replaced by the share
    subject = pick_subject()
    generator = subject.generator()
    model = subject.models[-2]
    with skipping(share) as computed:
        for _ in range(2):
            run_job(generator, subject, model, num_inference_steps=8, step_cache=StepCache.FIRST_BLOCK)
    # Then each image computes its first step and that share less than all
    assert len(computed) == 16
    assert computed[:8] == computed[8:]
    assert computed[0]
    assert computed.count(False) == 2 * round(8 * share)


@without_card
def test_stock_diffusers_makes_the_same_number_of_images():
    subject = pick_subject()
    assert len(stock_times(subject, subject.models[-2], repeats=1)) == 1


def test_a_cold_start_is_told_phase_by_phase():
    told = phases(compiles=False)
    assert list(told["seconds"]) == ["import", "load", "first_image", "second_image"]
    assert told["compile"]["value"] == "off"
    assert told["weight_bytes"] > 0
