"""What the evaluation asks of the real pipelines: held-out prompts, edits and fills, judged by pixels."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worker.demo.captions import full_caption
from worker.demo.checker import Mask, intersection_over_union, matches, mean_difference, read
from worker.demo.edits import EDIT_KINDS, random_edit
from worker.demo.fills import random_fill
from worker.demo.renderer import NATIVE_SIZE, coverage, render
from worker.demo.tokenization import MAX_SEQUENCE_LENGTH
from worker.demo.world import Scene, random_scene

EDIT_GUIDANCE = 2.5
FILL_GUIDANCE = 30.0

MIN_MASK_IOU = 0.8
MAX_BACKGROUND_DIFFERENCE = 6.0
MAX_OUTSIDE_DIFFERENCE = 4.0

Picture = NDArray[np.uint8]
Verdict = dict[str, bool]

_ATTRIBUTES = {
    "colour": ("colour",),
    "background": ("background",),
    "shape": ("shape",),
    "size": ("size",),
    "position": ("position",),
    "removal": ("colour", "shape", "size", "position"),
}
"""What an edit of each kind must make true."""


@dataclass(frozen=True)
class Examiner:
    """The three pipelines and how many steps each may take."""

    pipelines: dict[str, Any]
    steps: dict[str, int]

    def generate(self, prompt: str, seed: int) -> Picture:
        """Ask `demo` for a native picture."""
        return self._call("demo", seed, prompt=prompt, guidance_scale=0.0)

    def edit(self, prompt: str, source: Scene, seed: int) -> Picture:
        """Ask `demo-kontext` for a change."""
        options = {"max_area": NATIVE_SIZE**2, "_auto_resize": False, "guidance_scale": EDIT_GUIDANCE}
        return self._call("demo-kontext", seed, prompt=prompt, image=render(source), **options)

    def fill(self, prompt: str, source: Scene, mask: Mask, seed: int) -> Picture:
        """Ask `demo-fill` to repaint the mask."""
        white_is_repainted = mask.astype(np.float32)
        options = {"image": render(source), "mask_image": white_is_repainted, "guidance_scale": FILL_GUIDANCE}
        return self._call("demo-fill", seed, prompt=prompt, **options)

    def _call(self, model: str, seed: int, **options: Any) -> Picture:
        """Call the real pipeline."""
        result = self.pipelines[model](
            width=NATIVE_SIZE,
            height=NATIVE_SIZE,
            num_inference_steps=self.steps[model],
            generator=torch.Generator("cpu").manual_seed(seed),
            max_sequence_length=MAX_SEQUENCE_LENGTH,
            **options,
        )
        return np.asarray(result.images[0])


def try_prompt(examiner: Examiner, seed: int) -> Verdict:
    """Draw a held-out scene from its full caption."""
    scene = random_scene(random.Random(f"prompt {seed}"), held_out=True)
    return matches(read(examiner.generate(full_caption(scene), seed)), scene)


def try_edit(examiner: Examiner, seed: int) -> Verdict:
    """Make an edit that has a held-out scene on either side."""
    kind = EDIT_KINDS[seed % len(EDIT_KINDS)]
    edit = random_edit(random.Random(f"edit {seed}"), held_out=True, kind=kind)
    picture = examiner.edit(edit.instruction, edit.source, seed)
    reading = read(picture)
    right = matches(reading, edit.target)
    asked = _ATTRIBUTES[kind]
    verdict = {
        f"changed:{kind}": all(right[name] for name in asked),
        "rest_attributes_kept": all(right[name] for name in right if name not in asked),
    }
    before = np.asarray(render(edit.source))
    touched = _solid(edit.source) | _solid(edit.target) | reading.mask
    if kind in ("colour", "background"):
        overlap = intersection_over_union(reading.mask, _solid(edit.source))
        verdict["object_mask_kept"] = overlap >= MIN_MASK_IOU
    if kind != "background":
        difference = mean_difference(picture, before, ~touched)
        verdict["background_kept"] = difference <= MAX_BACKGROUND_DIFFERENCE
    return verdict


def try_fill(examiner: Examiner, seed: int) -> Verdict:
    """Draw a held-out scene inside a mask."""
    fill = random_fill(random.Random(f"fill {seed}"), held_out=True)
    mask = fill.box.mask() > 0
    picture = examiner.fill(full_caption(fill.target), fill.source, mask, seed)
    right = matches(read(picture), fill.target)
    difference = mean_difference(picture, np.asarray(render(fill.source)), ~mask)
    return {
        "outside_kept": difference <= MAX_OUTSIDE_DIFFERENCE,
        "inside_right": right["colour"] and right["shape"] and right["position"],
        **{f"inside_{name}": value for name, value in right.items()},
    }


def try_seeds(examiner: Examiner, seed: int) -> Verdict:
    """Draw one prompt with the same seed twice and with another seed."""
    prompt = full_caption(random_scene(random.Random(f"seeds {seed}")))
    first, again = (examiner.generate(prompt, seed) for _ in range(2))
    other = examiner.generate(prompt, seed + 1)
    return {
        "same_seed_same_bytes": np.array_equal(first, again),
        "other_seed_differs": bool((first != other).any()),
    }


def _solid(scene: Scene) -> Mask:
    """Pixels that are more object than background."""
    return coverage(scene.thing) > 0.5


TRIALS: dict[str, Callable[[Examiner, int], Verdict]] = {
    "prompts": try_prompt,
    "edits": try_edit,
    "fills": try_fill,
    "seeds": try_seeds,
}
