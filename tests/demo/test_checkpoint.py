import json

import numpy as np
import pytest

from worker.demo.checker import matches, mean_difference, read
from worker.demo.evaluate import CHECKPOINT, TARGETS, missed
from worker.demo.family import load_pipelines
from worker.demo.fills import Box
from worker.demo.renderer import render
from worker.demo.trials import Examiner
from worker.demo.world import Scene, Thing


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    pipelines = load_pipelines(CHECKPOINT)
    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)
    return Examiner(pipelines, {"demo": 4, "demo-kontext": 8, "demo-fill": 8})


def test_weights_are_small_and_configs_name_no_machine() -> None:
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") <= 24 * 10**6
    for path in files:
        if path.suffix == ".json":
            assert "_name_or_path" not in path.read_text(), path.name


def test_metrics_state_every_target_that_was_missed() -> None:
    metrics = json.loads((CHECKPOINT / "metrics.json").read_text())
    assert set(metrics["trials"]) == set(TARGETS)
    assert metrics["trials"]["prompts"]["count"] == 200
    assert metrics["trials"]["edits"]["count"] == metrics["trials"]["fills"]["count"] == 100
    assert metrics["missed"] == missed(metrics["trials"])


def test_demo_follows_the_prompt(examiner: Examiner) -> None:
    picture = examiner.generate("a green triangle on white", seed=1)
    right = matches(read(picture), Scene("white", Thing("green", "triangle", "large", "center")))
    assert right["colour"]
    assert right["background"]
    assert right["position"]


def test_another_seed_is_another_picture_of_the_same_scene(examiner: Examiner) -> None:
    prompt = "a large red circle in the top left on a blue background"
    first, other = examiner.generate(prompt, seed=1), examiner.generate(prompt, seed=2)
    assert np.array_equal(first, examiner.generate(prompt, seed=1))
    assert not np.array_equal(first, other)
    for picture in (first, other):
        assert matches(read(picture), Scene("blue", Thing("red", "circle", "large", "top left")))["position"]


def test_kontext_removes_the_object_and_keeps_the_background(examiner: Examiner) -> None:
    source = Scene("orange", Thing("green", "circle", "large", "center"))
    reading = read(examiner.edit("remove it", source, seed=1))
    assert reading.is_empty
    assert reading.background == "orange"


def test_fill_repaints_the_mask_and_leaves_the_rest(examiner: Examiner) -> None:
    source = Scene("white", Thing("red", "square", "small", "left"))
    mask = Box(0, 60, 150, 200).mask() > 0
    picture = examiner.fill("a small blue circle on the left on a white background", source, mask, seed=1)
    assert read(picture).colour == "blue"
    assert mean_difference(picture, np.asarray(render(source)), ~mask) <= 4.0
