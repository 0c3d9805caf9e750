import random
from itertools import product

from worker.demo.captions import any_caption, full_caption
from worker.demo.edits import EDIT_KINDS, random_edit
from worker.demo.fills import random_fill
from worker.demo.renderer import coverage
from worker.demo.vocabulary import COLOURS, SHAPES, unknown_words
from worker.demo.world import HELD_OUT, Scene, Thing, is_held_out, random_scene


def test_full_caption_names_everything() -> None:
    scene = Scene("orange", Thing("red", "circle", "small", "top left"))
    assert full_caption(scene) == "a small red circle in the top left on an orange background"


def test_other_captions_use_known_words_and_name_colour_shape_and_background() -> None:
    rng = random.Random(5)
    for _ in range(500):
        scene = random_scene(rng)
        caption = any_caption(scene, rng)
        assert unknown_words(caption) == []
        assert scene.thing is not None
        assert scene.thing.colour in caption
        assert scene.thing.shape in caption
        restorable = scene.background in ("white", "black")
        assert scene.background in caption or restorable
        assert "-" not in caption or "top-" in caption or "bottom-" in caption


def test_held_out_combinations_are_spread_over_the_world() -> None:
    assert len(HELD_OUT) == 28
    assert {combination[1] for combination in HELD_OUT} == set(SHAPES)
    assert {combination[0] for combination in HELD_OUT} == set(COLOURS)
    # Each pair of attributes is still trained with some third one.
    for colour, background in product(COLOURS, COLOURS):
        assert not all(is_held_out(colour, shape, background) for shape in SHAPES)


def test_training_never_shows_a_held_out_scene() -> None:
    rng = random.Random(1)
    for _ in range(1000):
        edit, fill = random_edit(rng), random_fill(rng)
        scenes = (random_scene(rng), edit.source, edit.target, fill.source, fill.target)
        assert not any(scene.held_out for scene in scenes)


def test_held_out_trials_always_need_a_held_out_scene() -> None:
    rng = random.Random(2)
    for _ in range(200):
        assert random_scene(rng, held_out=True).held_out
        edit = random_edit(rng, held_out=True)
        assert edit.source.held_out or edit.target.held_out
        assert random_fill(rng, held_out=True).target.held_out


def test_an_edit_changes_its_attribute_and_nothing_else() -> None:
    rng = random.Random(3)
    for kind in EDIT_KINDS:
        for _ in range(100):
            edit = random_edit(rng, kind=kind)
            before, after = edit.source, edit.target
            assert before.thing is not None
            if kind == "removal":
                assert after == Scene(before.background)
                continue
            assert after.thing is not None
            changed = {name for name in vars(before.thing) if getattr(before.thing, name) != getattr(after.thing, name)}
            if before.background != after.background:
                changed.add("background")
            assert changed == {kind}
            assert unknown_words(edit.instruction) == []


def test_a_fill_mask_hides_the_old_object_and_the_new_one() -> None:
    rng = random.Random(4)
    for _ in range(100):
        fill = random_fill(rng)
        outside = fill.box.mask() == 0
        assert fill.source.background == fill.target.background
        assert coverage(fill.source.thing)[outside].max() == 0.0
        assert coverage(fill.target.thing)[outside].max() == 0.0
        assert outside.mean() > 0.02
