from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.route import Generator, Leg, Route, simple_route
from tests.builders import params

LOCAL: Final = Leg(generator=Generator.LOCAL, model="dev")
REMOTE: Final = Leg(generator=Generator.REMOTE, model="schnell", changes={"num_inference_steps": 4})


def fallback(count=4):
    return Route(legs=(LOCAL.model_copy(update={"count": count}),), alternatives=(LOCAL, REMOTE))


def test_a_leg_asks_for_its_own_pictures_with_their_own_seeds():
    leg = REMOTE.model_copy(update={"first": 2, "count": 3})
    mine = leg.params(params(seed=40, num_images=5, num_inference_steps=28))
    assert (mine.seed, mine.num_images, mine.num_inference_steps) == (42, 3, 4)


def test_a_failed_leg_goes_on_at_the_other_side_where_it_stopped():
    # Given a route of four pictures of which one was made
    diverted = fallback().diverted(finished=1)
    # Then the other side makes the rest, with its own parameters
    assert diverted.done == [0]
    assert (diverted.current.generator, diverted.current.indices) == (Generator.REMOTE, range(1, 4))
    assert diverted.current.changes == REMOTE.changes
    # And only once
    assert diverted.diverted(finished=0) is None


def test_what_nobody_else_can_do_is_not_diverted():
    assert simple_route("dev", 2).diverted(0) is None


def test_without_its_enhancement_a_job_goes_on_and_keeps_its_way_out():
    enhancing = Route(legs=(Leg(generator=Generator.ENHANCER, model="nemo"), LOCAL), alternatives=(LOCAL, REMOTE))
    assert enhancing.diverted(0) == enhancing.advanced()
    assert enhancing.advanced().alternatives == (LOCAL, REMOTE)


def test_a_failure_after_the_last_picture_is_not_diverted():
    assert fallback(count=2).diverted(finished=2) is None


def test_the_last_leg_has_none_after_it():
    with pytest.raises(ValidationError, match="position 1 on a route of 1 legs"):
        simple_route("dev", 2).advanced()


@given(st.integers(1, 8), st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_no_picture_is_lost_or_made_twice_however_often_a_route_turns(count, cut, finished, merged):
    # Given a route that goes to one side alone, or is shared out
    cut = min(cut, count) if merged else count
    legs = (LOCAL.model_copy(update={"count": cut}), REMOTE.model_copy(update={"first": cut, "count": count - cut}))
    route = Route(legs=legs if merged else legs[:1], alternatives=(LOCAL, REMOTE))
    # When each leg fails in turn, and goes on at the other side if it may
    while True:
        route = route.diverted(min(finished, route.current.count)) or route
        if route.is_last:
            break
        route = route.advanced()
    # Then every picture belongs to exactly one leg
    assert sorted(index for leg in route.legs for index in leg.indices) == list(range(count))


def test_a_route_survives_being_stored():
    route = fallback().diverted(1)
    assert Route.model_validate_json(route.model_dump_json()) == route
