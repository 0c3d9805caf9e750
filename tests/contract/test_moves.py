"""What the worker's own placement moves, at FLUX.1's real widths, is what the planner says that it will."""

import pytest

from shared.planner import ALTERNATING, NEW_PROMPTS, SAME_MODEL, Shape
from tests.contract.family_on_paper import moved_bytes, planned_moves

ROWS = {
    SAME_MODEL: [("schnell", True)] + [("schnell", False)] * 2,
    ALTERNATING: [("schnell", True), ("dev", True)] + [("schnell", False), ("dev", False)] * 2,
    NEW_PROMPTS: [("schnell", True)] * 3,
}
"""Models, and whether their prompt is new; what the last job moves is what every later one would."""

PARTS = 3 * 0.5e9
"""Bytes by which parts may be too large: one for each phase."""


@pytest.mark.parametrize("mix", ROWS, ids=["same model", "alternating", "new prompts"])
@pytest.mark.parametrize(("gib", "side"), [(24, 1024), (31, 1440), (48, 1440)])
def test_a_job_waits_for_the_bytes_that_were_planned(gib, side, mix):
    # Given a card, square pictures, and a row of jobs
    shape = Shape(side * side, 0)
    models = dict.fromkeys(model for model, _ in ROWS[mix])
    # When they are replayed phase by phase
    moved = moved_bytes(gib, ROWS[mix], shape)
    # Then the last one brought in what the plan says, to a part
    planned = planned_moves(gib, tuple(models), shape).per_job(mix)
    assert planned <= moved[-1] + 1e6
    assert moved[-1] <= planned + (PARTS if planned else 0)


def test_after_a_larger_picture_a_smaller_one_finds_its_model_there():
    # Given a 5090, and pictures of one, two and one megapixel of the same prompt
    one, two = Shape(1024 * 1024, 0), Shape(1440 * 1440, 0)
    moved = moved_bytes(31, [("schnell", True)] + [("schnell", False)] * 2, [one, two, one])
    # Then only the first one moved anything: what left for the decode was a part of the encoders
    assert moved[0] > 25e9
    assert moved[1:] == [0, 0]
