"""The engine's benchmarks on the demo family: order, counts and equality; nothing here is timed."""

import itertools
import json

import pytest
import torch

from benchmarks.gpu import fit, fp8_step, step_roofline, switch
from benchmarks.gpu.__main__ import PARTS, run
from benchmarks.gpu.family import mix, pick_subject
from benchmarks.gpu.mixed_queue import room_for_one, run_queue
from benchmarks.gpu.step_roofline import operations

without_card = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")


@without_card
def test_a_capped_queue_brings_a_model_in_at_every_switch_and_an_uncapped_one_never():
    # Given a mixed queue and a card with room for one model, after one job of each
    subject = pick_subject()
    order = list(mix(subject, 10))
    previous = [subject.models[-1], *order]
    switches = {m: sum(b == m != a for a, b in itertools.pairwise(previous)) for m in subject.models}
    # When it runs, capped and not
    _, capped = run_queue(pick_subject(room_for_one(subject)), order, num_inference_steps=1)
    _, roomy = run_queue(subject, order, num_inference_steps=1)
    # Then each switch moved its model once, and without a cap nothing moved
    assert capped == switches
    assert set(roomy.values()) == {0}


def test_the_mix_is_the_stated_one():
    subject = pick_subject()
    order = list(mix(subject, 30))
    kontext, fill = subject.models[-2:]
    assert (order.count(kontext), order.count(fill)) == (6, 3)


@without_card
@pytest.mark.parametrize("part", [switch, step_roofline, fp8_step, fit], ids=lambda part: part.__name__)
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
def test_the_operations_of_a_step_are_those_that_were_counted_on_the_classes(side, tflop):
    assert operations(side) / 1e12 == pytest.approx(tflop, rel=0.001)
