"""The memory planner: the cards people have, and properties that hold for any."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters import FLUX_IP_ADAPTER, SD15_IP_ADAPTER
from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError
from shared.domain.precision import BEST_FIRST, Precision, ResidencyKey
from shared.planner import (
    ALTERNATING,
    GIB,
    NEW_PROMPTS,
    PCIE_5_BYTES_PER_SECOND,
    SAME_MODEL,
    Budget,
    DoesNotFit,
    Layout,
    Mix,
    Shape,
    Wanted,
    best_precision,
    gpu_specs,
    leaving,
    plan,
)
from shared.planner.host import master_bytes

SPECS = gpu_specs(CATALOG.values())
FLUX = ("schnell", "kontext", "fill", "dev")
ADAPTED = ("dev+flux-ip-adapter", "sd15+ip-adapter-sd15", "sdxl+ip-adapter-sdxl")


def card(gib, host_gib=128):
    return Budget(
        gpu_bytes=None if gib is None else round(gib * GIB),
        host_bytes=round(host_gib * GIB),
        link_bytes_per_second=PCIE_5_BYTES_PER_SECOND,
    )


def planned(gib, precision, models=FLUX, resident=(), host_gib=128, **shape):
    return plan(SPECS, card(gib, host_gib), wanted(models, precision, resident, **shape))


def wanted(models, precision=Precision.EXACT, resident=(), **shape):
    return Wanted(models=models, precision=precision, resident=resident, shape=Shape(**shape))


class TestCardsPeopleHave:
    @pytest.mark.parametrize(
        ("gib", "precision", "warm", "table", "tiled", "encoders_resident"),
        [
            (12, "balanced", 1, True, False, False),
            (12, "compact", 1, True, False, True),
            (14, "compact", 1, True, False, True),
            (16, "balanced", 1, True, True, True),
            (16, "compact", 2, True, False, True),
            (24, "exact", 1, True, False, False),
            (24, "balanced", 2, True, False, False),
            (24, "compact", 3, True, False, True),
            (32, "exact", 1, True, False, True),
            (32, "balanced", 3, True, False, False),
            (32, "compact", 4, False, False, True),
            (48, "exact", 2, True, False, True),
            (48, "balanced", 4, True, False, True),
            (80, "exact", 4, True, False, True),
            (80, "balanced", 4, False, False, True),
            (141, "exact", 4, False, False, True),
            (None, "exact", 1, False, False, True),
        ],
    )
    def test_the_four_flux_models(self, gib, precision, warm, table, tiled, encoders_resident):
        # Given a card and four models, when they are planned for
        made = planned(gib, Precision(precision))
        # Then the jobs of any mix wait for the fewest bytes, and the first ones wanted are warm
        assert [key.model for key in made.warm] == list(FLUX[:warm])
        assert made.layout.modulation_table is table
        assert made.layout.tiled_decode is tiled
        assert made.layout.encoders_resident is encoders_resident
        assert [transfer.key.model for transfer in made.transfers] == ([] if gib is None else list(FLUX[warm:]))

    @pytest.mark.parametrize(("gib", "expected"), [(12, "balanced"), (16, "balanced"), (24, "exact"), (141, "exact")])
    def test_the_best_precision_is_the_one_at_which_each_model_fits_alone(self, gib, expected):
        assert best_precision(SPECS, card(gib), FLUX) == expected

    def test_a_switch_costs_what_the_link_takes(self):
        made = planned(32, Precision.EXACT, ("schnell", "dev"))
        # 17.2 GB without the modulation layers, at 50 GB/s
        assert made.transfers[0].bytes == pytest.approx(17.24e9, rel=0.001)
        assert made.transfers[0].seconds == pytest.approx(0.345, abs=0.001)

    def test_a_small_host_sends_the_rest_through_the_ring(self):
        made = planned(32, Precision.EXACT, ("schnell", "dev", "fill"), host_gib=64)
        assert [transfer.pinned for transfer in made.transfers] == [False, False]
        assert made.pinned_bytes <= 0.75 * 64 * GIB
        assert made.transfers[0].seconds > 0.345
        assert "pinned ring" in made.reason

    def test_a_card_that_is_too_small_is_told_what_would_fit(self):
        with pytest.raises(DoesNotFit, match=r"needs 18\.\d GiB; there are 15\.2 GiB.*balanced or compact") as refused:
            planned(16, Precision.EXACT)
        assert refused.value.details["field"] == "precision"

    def test_a_machine_without_a_card_has_every_precision_and_more_to_gain_from_it(self):
        # Given a host whose 16-bit weights would take 32 bits each, and whose 8-bit ones take 8
        sizes = [planned(None, precision, ("schnell",)).sizes.denoisers for precision in BEST_FIRST]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.02)
        assert planned(None, Precision.EXACT, ("demo", "demo-fill")).reason.startswith(
            "exact: the weights as published"
        )

    def test_auto_is_no_longer_exact_where_a_host_has_no_room_for_that(self):
        assert best_precision(SPECS, card(None, host_gib=64), ("schnell",)) == "balanced"

    @pytest.mark.parametrize("precision", [Precision.BALANCED, Precision.COMPACT])
    def test_a_model_without_quantized_forms_is_refused_in_words(self, precision):
        with pytest.raises(CapabilityError, match="sdxl has no 8-bit and no 4-bit form here, only exact") as refused:
            planned(80, precision, ("sdxl",))
        assert refused.value.details == {"field": "precision", "limit": "exact"}

    def test_the_best_precision_of_a_mixed_list_is_one_that_all_of_them_have(self):
        assert best_precision(SPECS, card(24), ("schnell", "sdxl")) == "exact"
        with pytest.raises(CapabilityError):
            best_precision(SPECS, card(12), ("schnell", "sdxl"))

    def test_a_larger_picture_takes_room_from_warm_models(self):
        assert len(planned(48, Precision.EXACT, pixels=2048 * 2048).warm) < len(planned(48, Precision.EXACT).warm)

    def test_an_adapter_is_a_user_of_the_card_with_bytes_and_a_key_of_its_own(self):
        # Given a model alone, and with the adapter that follows pictures
        alone, both = planned(80, Precision.EXACT, ("dev",)), planned(80, Precision.EXACT, ("dev", ADAPTED[0]))
        # Then both are planned for, under different keys, and share the model: what comes is adapter and image encoder
        sizes = FLUX_IP_ADAPTER.component_bytes
        assert [str(key) for key in both.warm] == ["dev", "dev+flux-ip-adapter"]
        assert both.sizes.denoisers == alone.sizes.denoisers
        assert both.sizes.adapters == sizes["ip_adapter"]
        assert both.sizes.encoders == alone.sizes.encoders + sizes["image_encoder"]

    def test_adapters_that_look_through_one_encoder_share_it(self):
        made = planned(80, Precision.EXACT, ADAPTED[1:])
        words = sum(SPECS[model].encoder_bytes(Precision.EXACT) for model in ("sd15", "sdxl"))
        assert made.sizes.encoders - words == SD15_IP_ADAPTER.component_bytes["image_encoder"]

    def test_an_adapter_may_be_what_does_not_fit(self):
        # Given a card with room for a model at the largest picture it makes, but for half of its adapter
        shape = {"pixels": 2048 * 2048}
        needed = min(gib for gib in range(4, 80) if attempt(card(gib), wanted(("dev",), **shape)))
        assert attempt(card(needed), wanted((ADAPTED[0],), **shape)) is None
        assert attempt(card(needed + 2), wanted((ADAPTED[0],), **shape)) is not None

    def test_a_switch_to_a_model_with_adapter_moves_both(self):
        plain, adapted = (
            planned(32, Precision.EXACT, ("schnell", model)).transfers[0] for model in ("dev", ADAPTED[0])
        )
        assert adapted.bytes - plain.bytes == FLUX_IP_ADAPTER.component_bytes["ip_adapter"]

    def test_what_is_there_stays_and_the_least_recently_used_goes(self):
        # Given a card for two, and two models on it
        resident = (ResidencyKey("fill"), ResidencyKey("dev"))
        made = planned(48, Precision.EXACT, ("schnell",), resident)
        # When a third is wanted, then the one used last stays
        assert (made.keep, made.load, made.evict) == (
            (ResidencyKey("dev"),), (ResidencyKey("schnell"),), (ResidencyKey("fill"),),
        )  # fmt: skip


class TestAnIndependentTable:
    """Peaks in GiB at 1024 x 1024 that an audit of the engine worked out by itself, from the classes' byte counts."""

    @pytest.mark.parametrize(
        ("gib", "models", "peak", "layout"),
        [
            (31.0, ("schnell",), 28.1, Layout(warm=1, modulation_table=True)),
            (31.0, FLUX, 28.1, Layout(warm=1, modulation_table=True)),
            (32, FLUX, 28.1, Layout(warm=1, modulation_table=True)),
            (24, ("schnell",), 19.0, Layout(warm=1, modulation_table=True, encoders_resident=False)),
            (16, ("schnell",), 14.3, Layout(warm=1, modulation_table=True, tiled_decode=True)),
            (48, FLUX, 44.0, Layout(warm=2, modulation_table=True)),
            (80, FLUX, 76.3, Layout(warm=4, modulation_table=True)),
        ],
    )
    def test_the_plan_agrees_within_0_3_gib(self, gib, models, peak, layout):
        # Given no source picture, as that table counts; at 31.0 it has 28.1 of about 29.9, one model warm, T5 resident
        # and a table, at 24 the encoders take turns, at 16 it is 8 bits in tiles
        precision = best_precision(SPECS, card(gib), models)
        made = planned(gib, precision, models, reference_pixels=0)
        assert made.layout == layout
        assert made.peak_bytes / GIB == pytest.approx(peak, abs=0.3)

    @pytest.mark.parametrize(
        ("pixels", "denoising", "decoding"),
        [(1024 * 1024, 0.45, 2.4), (1440 * 1440, 1.0, 4.75), (2048 * 2048, 1.8, 9.6)],
    )
    def test_steps_and_decode_have_a_working_memory_of_their_own(self, pixels, denoising, decoding):
        made = planned(80, Precision.EXACT, ("dev",), pixels=pixels, reference_pixels=0)
        assert made.sizes.denoising / GIB == pytest.approx(denoising, abs=0.15)
        assert made.sizes.decoding / GIB == pytest.approx(decoding, abs=0.1)

    def test_kontext_reads_the_source_at_every_step(self):
        made = planned(80, Precision.EXACT, ("kontext",), pixels=256 * 256)
        # A megapixel passes through the VAE's encoder: more than the steps of a small picture take
        assert made.sizes.denoising == 1024 * 1024 * 1536


class TestWhatMoves:
    MEGAPIXELS_2 = 1440 * 1440

    def moves(self, gib, **shape):
        return planned(gib, Precision.EXACT, ("schnell",), reference_pixels=0, **shape).moves

    def test_at_two_megapixels_a_part_of_the_encoders_leaves_for_the_decode_and_the_model_stays(self):
        # Given a 5090 with 31.0 GiB free
        moves = self.moves(31.0, pixels=self.MEGAPIXELS_2)
        # Then a new prompt brings back what had no room beside the decode, not 27 GB
        assert moves.new_prompt / 1e9 == pytest.approx(0.7, abs=0.2)
        assert moves.model_after_encoders == moves.model_after_decode == 0

    def test_where_they_cannot_be_together_both_leave_in_part(self):
        moves = self.moves(24)
        assert 0 < moves.encoders < SPECS["schnell"].encoder_bytes(Precision.EXACT) * 2 / 3
        assert 0 < moves.model_after_encoders < 4 * GIB
        assert moves.model_after_decode == 0

    def test_a_decode_that_needs_the_model_s_room_costs_every_job(self):
        # Given a decode of 9.6 GiB on a card that has room for the steps, and for little beside them
        moves = self.moves(24, pixels=2048 * 2048)
        assert 0 < moves.model_after_decode == pytest.approx(moves.per_job(SAME_MODEL))

    @pytest.mark.parametrize(
        ("mix", "warm", "tiled"), [(SAME_MODEL, 1, False), (ALTERNATING, 1, False), (NEW_PROMPTS, 1, True)]
    )
    def test_tiles_are_for_jobs_that_would_wait_without_them(self, mix, warm, tiled):
        made = plan(SPECS, card(16), replace(wanted(("schnell",), Precision.BALANCED, reference_pixels=0), mix=mix))
        assert (made.layout.warm, made.layout.tiled_decode) == (warm, tiled)

    def test_a_second_warm_model_is_worth_more_the_more_jobs_switch(self):
        # Given room for two models if the encoders leave in part
        two = wanted(("schnell", "dev"), pixels=self.MEGAPIXELS_2, reference_pixels=0)
        made = {mix: plan(SPECS, card(44), replace(two, mix=mix)) for mix in (NEW_PROMPTS, ALTERNATING)}
        assert [len(made[mix].warm) for mix in made] == [1, 2]
        assert made[NEW_PROMPTS].moves.per_job(NEW_PROMPTS) == made[ALTERNATING].moves.per_job(ALTERNATING) == 0

    def test_the_reason_says_what_leaves_and_what_that_costs(self):
        assert "text encoders leave in part while a picture is made: a prompt that is not cached brings 0.7 GB" in (
            planned(31, Precision.EXACT, ("schnell",), pixels=self.MEGAPIXELS_2, reference_pixels=0).reason
        )
        assert "every other job" in planned(24, Precision.EXACT, ("schnell",), pixels=2048 * 2048).reason


MODEL_NAMES = st.lists(st.sampled_from((*FLUX, "demo", "demo-kontext", *ADAPTED)), min_size=1, max_size=5, unique=True)
PLAIN_KEYS = st.builds(ResidencyKey, st.sampled_from(FLUX), st.sampled_from(BEST_FIRST))
KEYS = st.lists(st.one_of(PLAIN_KEYS, st.sampled_from(ADAPTED).map(ResidencyKey.parse)), max_size=5, unique=True)
PIXELS = st.sampled_from((256 * 256, 1024 * 1024, 1440 * 1440, 2048 * 2048))
SHARES = st.sampled_from((0, 0.25, 0.5, 1))
CASES = st.builds(
    Wanted,
    models=MODEL_NAMES.map(tuple),
    precision=st.sampled_from(BEST_FIRST),
    resident=KEYS.map(tuple),
    shape=st.builds(Shape, PIXELS, PIXELS),
    mix=st.builds(Mix, SHARES, SHARES),
)
CARDS = st.builds(card, st.floats(2, 200), st.floats(8, 512))


class TestHostMemory:
    EXACT = tuple(ResidencyKey(model) for model in FLUX)
    BALANCED = tuple(ResidencyKey(model, Precision.BALANCED) for model in FLUX)

    def leaving(self, loaded, coming, host_gib, gib=32):
        return leaving(loaded, coming, {key: SPECS[key.model] for key in (*loaded, coming)}, card(gib, host_gib))

    def test_with_room_for_all_nothing_leaves(self):
        assert self.leaving(self.EXACT[:2], self.BALANCED[0], 128) == ()

    def test_the_least_recently_used_leaves_and_no_more_than_must(self):
        # Given two exact models (57 GB with their encoders), and a third at 8 bits (17 GB), for 72 GB
        assert self.leaving(self.EXACT[:2], self.BALANCED[2], 90) == self.EXACT[:1]

    def test_exact_models_on_a_card_leave_to_the_system_what_is_not_pinned(self):
        assert self.leaving(self.EXACT[:3], self.EXACT[3], 32) == ()
        assert self.leaving((*self.EXACT[:3], self.BALANCED[0]), self.EXACT[3], 32) == self.BALANCED[:1]

    def test_without_a_card_they_are_not_pages_of_files(self):
        assert self.leaving(self.EXACT[:1], self.EXACT[1], 128, gib=None) == self.EXACT[:1]

    @given(KEYS, st.builds(ResidencyKey, st.sampled_from(FLUX), st.sampled_from(BEST_FIRST)), st.floats(4, 512))
    def test_what_was_quantized_fits_or_is_alone(self, loaded, coming, host_gib):
        loaded = tuple(key for key in loaded if key != coming)
        gone = self.leaving(loaded, coming, host_gib)
        left = [key for key in loaded if key not in gone]
        specs = {key: SPECS[key.model] for key in (*loaded, coming)}
        fits = master_bytes((*left, coming), specs) <= card(32, host_gib).pinnable_bytes
        assert fits or not left or {key.precision for key in (*left, coming)} == {Precision.EXACT}


def attempt(budget, wanted):
    try:
        return plan(SPECS, budget, wanted)
    except CapabilityError:
        return None


class TestProperties:
    @given(CARDS, CASES)
    def test_never_over_budget(self, budget, wanted):
        made = attempt(budget, wanted)
        if made is not None:
            assert made.sizes.needed(made.layout) <= made.peak_bytes <= budget.usable_bytes
            assert made.pinned_bytes <= budget.pinnable_bytes

    @given(CARDS, CASES)
    def test_deterministic(self, budget, wanted):
        assert attempt(budget, wanted) == attempt(budget, wanted)

    @given(CARDS, CASES)
    def test_every_key_is_accounted_for_once_and_the_job_s_own_model_is_warm(self, budget, wanted):
        made = attempt(budget, wanted)
        if made is not None:
            assert str(ResidencyKey.parse(wanted.models[0])) in [
                str(replace(key, precision=Precision.EXACT)) for key in made.warm
            ]
            assert {*made.keep, *made.evict} == set(wanted.resident)
            groups = (made.keep, made.load, made.evict)
            assert all(not set(a) & set(b) for a, b in itertools.combinations(groups, 2))

    @given(CARDS, CASES, st.sampled_from(ADAPTED))
    def test_an_adapter_never_makes_room(self, budget, wanted, adapted):
        # Given what is wanted, and the same with an adapter for its first model or beside it
        with_adapter = replace(wanted, models=tuple(dict.fromkeys((adapted, *wanted.models))))
        alone = replace(with_adapter, models=(adapted.partition("+")[0], *with_adapter.models[1:]))
        made, larger = attempt(budget, alone), attempt(budget, with_adapter)
        if larger is not None:
            assert made is not None
            # Then it takes more, unless less is kept beside it: as many models, but smaller ones
            others = set(made.warm) - {ResidencyKey(alone.models[0], alone.precision)}
            if made.layout == larger.layout and others <= set(larger.warm):
                assert larger.peak_bytes >= made.peak_bytes

    @given(CASES, st.lists(st.floats(2, 200), min_size=2, max_size=2))
    def test_more_memory_never_makes_jobs_wait_for_more_unless_it_spares_pixels(self, wanted, sizes):
        small, large = (attempt(card(gib), wanted) for gib in sorted(sizes))
        if small is not None:
            assert large is not None
            assert large.layout.tiled_in_vain <= small.layout.tiled_in_vain
            if large.layout.tiled_in_vain == small.layout.tiled_in_vain:
                assert large.moves.per_job(wanted.mix) <= small.moves.per_job(wanted.mix)

    @given(CASES, st.lists(st.floats(2, 200), min_size=2, max_size=2))
    def test_more_memory_keeps_less_only_where_jobs_wait_for_less(self, wanted, sizes):
        small, large = (attempt(card(gib), wanted) for gib in sorted(sizes))
        if small is not None and not set(small.warm) <= set(large.warm):
            assert large.layout.tiled_in_vain < small.layout.tiled_in_vain or (
                large.moves.per_job(wanted.mix) < small.moves.per_job(wanted.mix)
            )

    @given(CARDS, CASES)
    def test_what_leaves_is_a_part_of_what_is_there(self, budget, wanted):
        made = attempt(budget, wanted)
        if made is not None:
            assert 0 <= made.moves.encoders <= made.sizes.encoders
            assert 0 <= made.moves.model_after_decode <= made.moves.model_after_encoders <= made.sizes.own
            assert (made.moves.new_prompt == 0) or not made.layout.encoders_resident

    @given(MODEL_NAMES, st.lists(st.floats(2, 200), min_size=2, max_size=2))
    def test_more_memory_never_lowers_the_precision(self, models, sizes):
        ranks = []
        for gib in sorted(sizes):
            try:
                ranks.append(BEST_FIRST.index(best_precision(SPECS, card(gib), models)))
            except CapabilityError:
                ranks.append(len(BEST_FIRST))
        assert ranks[0] >= ranks[1]

    @given(CASES, st.lists(st.floats(1, 512), min_size=2, max_size=2))
    def test_more_host_memory_never_pins_less(self, wanted, sizes):
        made = [attempt(card(80, host_gib), wanted) for host_gib in sorted(sizes)]
        if None not in made:
            assert made[0].pinned_bytes <= made[1].pinned_bytes


class TestWhatIsFree:
    def usable(self, free_gib):
        free = None if free_gib is None else round(free_gib * GIB)
        return Budget(gpu_bytes=31 * GIB, gpu_free_bytes=free, host_bytes=64 * GIB).usable_bytes / GIB

    def test_a_card_that_nobody_else_uses_offers_its_nominal_share(self):
        assert self.usable(None) == pytest.approx(29.88, abs=0.01)
        assert self.usable(30.8) == self.usable(None)

    def test_what_others_have_and_a_margin_of_three_quarters_of_a_gib_is_not_planned_with(self):
        assert self.usable(28.0) == pytest.approx(27.25)
        assert self.usable(0.5) == 0
