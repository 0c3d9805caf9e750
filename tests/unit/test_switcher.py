"""Every row of the switcher's table, and what holds for all of them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import CapabilityError
from shared.domain.params import JobKind
from shared.domain.route import Generator, GeneratorChoice, Lane, Leg
from shared.domain.switcher import Facts, GeneratorSwitcher, RemoteSide, Side, Wish

SPACE = RemoteSide(
    space="someone/flux",
    model="schnell",
    kinds=frozenset({JobKind.GENERATE}),
    side=Side(True, "the Space answers"),
)
HERE = Facts(
    local=Side(True, "the GPU worker is there"),
    has_cuda=True,
    consistent=Side(True, "the adapter is here"),
    remote=SPACE,
)
AWAY = Side(False, "the GPU queue is paused")
NO_CUDA = replace(HERE, has_cuda=False)
GENERATE = Wish(kind=JobKind.GENERATE)


def decide(facts=HERE, **wish):
    return GeneratorSwitcher(facts).decide(replace(GENERATE, **wish))


def refused(facts=HERE, **wish):
    with pytest.raises(CapabilityError) as refusal:
        decide(facts, **wish)
    return refusal.value


class TestAuto:
    @pytest.mark.parametrize(
        ("facts", "wish", "generator", "because"),
        [
            (HERE, {}, "local", "the GPU worker is there"),
            (NO_CUDA, {}, "remote", "no CUDA device; the Space someone/flux does it"),
            (replace(HERE, local=AWAY), {}, "remote", "the GPU queue is paused; the Space"),
            # The demo model counts as local, and a job waits rather than being refused
            (replace(NO_CUDA, remote=None), {}, "local", "no CUDA device, but no Space is configured"),
            (replace(HERE, local=AWAY, remote=None), {}, "local", "paused, but no Space is configured"),
            # What keeps a job in the house
            (replace(NO_CUDA, remote=replace(SPACE, auto=False)), {}, "local", "FLUX_REMOTE_AUTO is off"),
            (NO_CUDA, {"has_pictures": True}, "local", "only on request"),
            (NO_CUDA, {"model": "demo"}, "local", "model demo was asked for"),
            (NO_CUDA, {"kind": JobKind.FILL}, "local", "does no fill jobs"),
            (
                replace(NO_CUDA, remote=replace(SPACE, side=Side(False, "its quota is used up until 12:00"))),
                {},
                "local",
                "no CUDA device, but its quota is used up until 12:00",
            ),
            # The scenario goes before availability
            (HERE, {"has_reference": True, "has_pictures": True}, "consistent", "reference picture"),
            (NO_CUDA, {"has_reference": True, "has_pictures": True}, "consistent", "reference picture"),
        ],
    )
    def test_it_chooses_by_what_is_needed_and_what_is_there(self, facts, wish, generator, because):
        decision = decide(facts, **wish)
        assert decision.generator == generator
        assert because in decision.reason


class TestPreference:
    @pytest.mark.parametrize("facts", [HERE, NO_CUDA, replace(HERE, local=AWAY)])
    def test_local_is_local_whatever_is_there(self, facts):
        assert decide(facts, choice=GeneratorChoice.LOCAL).sides == (Generator.LOCAL,)

    def test_a_preference_that_has_to_wait_says_so(self):
        assert (
            "the job waits: the GPU queue is paused"
            in decide(replace(HERE, local=AWAY), choice=GeneratorChoice.LOCAL).reason
        )

    def test_fallback_starts_on_the_side_that_is_there(self):
        fallback = GeneratorChoice.FALLBACK
        assert decide(choice=fallback).sides == (Generator.LOCAL, Generator.REMOTE)
        assert decide(replace(HERE, local=AWAY), choice=fallback).sides == (Generator.REMOTE, Generator.LOCAL)

    @pytest.mark.parametrize("choice", ["remote", "fallback", "merge"])
    def test_without_a_space_the_remote_choices_are_refused_and_say_what_to_set(self, choice):
        error = refused(replace(HERE, remote=None), choice=GeneratorChoice(choice), num_images=4)
        assert error.details["field"] == "generator"
        assert "FLUX_REMOTE_SPACE" in error.message

    @pytest.mark.parametrize(
        ("wish", "words"),
        [
            ({"choice": "consistent"}, "needs a reference picture"),
            ({"choice": "consistent", "kind": JobKind.EDIT, "has_reference": True}, "leave it out of edit jobs"),
            ({"choice": "remote", "has_reference": True}, "needs generator consistent"),
            ({"choice": "remote", "kind": JobKind.EDIT}, "does generate, not edit"),
            ({"choice": "remote", "model": "dev"}, "runs schnell, not dev"),
            ({"choice": "merge", "num_images": 1}, "num_images of 2 or more"),
        ],
    )
    def test_what_cannot_be_met_is_refused_in_words(self, wish, words):
        assert words in refused(**{**wish, "choice": GeneratorChoice(wish["choice"])}).message


SIDES = st.builds(Side, st.booleans(), st.sampled_from(["a", "b"]))
FACTS = st.builds(
    Facts,
    local=SIDES,
    has_cuda=st.booleans(),
    consistent=SIDES,
    remote=st.none()
    | st.builds(
        RemoteSide,
        space=st.just("someone/flux"),
        model=st.just("schnell"),
        kinds=st.frozensets(st.sampled_from(JobKind)),
        side=SIDES,
        auto=st.booleans(),
    ),
)
WISHES = st.builds(
    Wish,
    kind=st.sampled_from(JobKind),
    choice=st.sampled_from(GeneratorChoice),
    model=st.none() | st.sampled_from(["demo", "schnell"]),
    num_images=st.integers(1, 8),
    has_reference=st.booleans(),
    has_pictures=st.booleans(),
)


class TestProperties:
    @given(FACTS, WISHES)
    def test_nothing_leaves_the_house_without_a_space(self, facts, wish):
        try:
            decision = GeneratorSwitcher(replace(facts, remote=None)).decide(wish)
        except CapabilityError:
            return
        assert Generator.REMOTE not in decision.sides

    @given(FACTS, WISHES)
    def test_auto_is_never_refused_is_decided_and_sends_no_picture_out(self, facts, wish):
        decision = GeneratorSwitcher(facts).decide(replace(wish, choice=GeneratorChoice.AUTO))
        assert decision.generator is not GeneratorChoice.AUTO
        assert decision.reason
        assert not (wish.has_pictures and Generator.REMOTE in decision.sides)

    @given(FACTS, WISHES, st.none() | st.just("nemo"))
    def test_the_route_makes_every_picture_once(self, facts, wish, enhancer):
        try:
            decision = GeneratorSwitcher(facts).decide(wish)
        except CapabilityError:
            return
        patterns = {side: Leg(generator=side, model="m") for side in Generator}
        route = decision.route(patterns, wish.num_images, enhancer=enhancer)
        assert sorted(index for leg in route.legs for index in leg.indices) == list(range(wish.num_images))
        assert (route.legs[0].generator is Generator.ENHANCER) == (enhancer is not None)
        assert {leg.generator for leg in route.legs} - {Generator.ENHANCER} <= set(decision.sides)


def test_a_lane_follows_from_who_does_the_work():
    assert {generator: Leg(generator=generator, model="m").lane for generator in Generator} == {
        Generator.LOCAL: Lane.GPU,
        Generator.CONSISTENT: Lane.GPU,
        Generator.REMOTE: Lane.REMOTE,
        Generator.ENHANCER: Lane.REMOTE,
    }
