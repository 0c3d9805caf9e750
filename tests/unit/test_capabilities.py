import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import CATALOG, find_model
from shared.domain.capabilities import fit_size, resolve, source_size_for
from shared.domain.errors import CapabilityError, RequestError, UnknownModel
from shared.domain.params import PARAMS_ADAPTER, SIDE_MULTIPLE, JobKind
from shared.domain.step_cache import step_caches


class TestResolve:
    @pytest.mark.parametrize("spec", CATALOG.values(), ids=lambda spec: spec.model)
    def test_what_is_unset_comes_from_the_model(self, spec):
        source = None if spec.kind is JobKind.GENERATE else (spec.native_side, spec.native_side)
        resolved = resolve(spec, spec.kind, {"prompt": "x"}, source)
        assert resolved.params.num_inference_steps == spec.num_inference_steps
        assert resolved.params.guidance_scale == spec.guidance_scale
        assert (resolved.params.width, resolved.params.height) == (spec.native_side, spec.native_side)
        assert resolved.warnings == ()

    def test_a_seed_is_drawn_when_none_is_given(self):
        seeds = {resolve(CATALOG["demo"], JobKind.GENERATE, {"prompt": "x"}).params.seed for _ in range(5)}
        assert len(seeds) == 5

    @pytest.mark.parametrize("asked", [-1, None])
    def test_a_seed_that_means_random_is_drawn(self, asked):
        seeds = {resolve(CATALOG["demo"], JobKind.GENERATE, {"prompt": "x", "seed": asked}).params.seed for _ in "123"}
        assert len(seeds) == 3
        assert min(seeds) >= 0

    def test_guidance_on_a_distilled_model_is_reported(self):
        resolved = resolve(CATALOG["schnell"], JobKind.GENERATE, {"prompt": "x", "guidance_scale": 3.5})
        assert resolved.warnings == ("schnell is guidance-distilled: guidance_scale has no effect on it",)

    @pytest.mark.parametrize(
        ("asked", "field", "limit"),
        [
            ({"num_inference_steps": 51}, "num_inference_steps", 50),
            ({"guidance_scale": 31.0}, "guidance_scale", 30.0),
            ({"width": 48}, "width", 64),
            ({"height": 1040}, "height", 1024),
            ({"width": 1024, "height": 1024}, "width", 768 * 768),
        ],
    )
    def test_values_outside_the_limits_name_field_and_limit(self, asked, field, limit):
        with pytest.raises(CapabilityError) as refused:
            resolve(CATALOG["demo"], JobKind.GENERATE, {"prompt": "x", **asked})
        assert refused.value.details == {"field": field, "limit": limit}

    def test_a_model_of_another_kind_is_refused(self):
        with pytest.raises(CapabilityError, match="does edit jobs, not generate"):
            resolve(CATALOG["kontext"], JobKind.GENERATE, {"prompt": "x"})

    def test_half_a_size_is_refused_for_a_picture(self):
        with pytest.raises(RequestError, match="both width and height"):
            resolve(CATALOG["demo-kontext"], JobKind.EDIT, {"prompt": "x", "width": 256}, (256, 256))


class TestSizeOfFills:
    """A fill keeps its picture's size wherever the model can work at that size, rounded up to its grid."""

    def filled(self, model, source, **asked):
        return resolve(CATALOG[model], JobKind.FILL, {"prompt": "x", **asked}, source)

    @pytest.mark.parametrize(
        ("model", "source", "grid"),
        [
            ("demo-fill", (250, 190), (256, 192)),
            ("demo-fill", (256, 192), (256, 192)),
            ("demo-fill", (49, 700), (64, 704)),
            ("fill", (1003, 667), (1008, 672)),
            ("fill", (2047, 2040), (2048, 2048)),
        ],
    )
    def test_it_is_the_picture_s_and_the_model_works_at_the_next_of_its_grid(self, model, source, grid):
        resolved = self.filled(model, source)
        assert (resolved.params.width, resolved.params.height) == source
        assert resolved.params.grid_size == grid
        assert resolved.warnings == ()

    @pytest.mark.parametrize(
        ("model", "source"), [("demo-fill", (1025, 100)), ("demo-fill", (800, 800)), ("fill", (8192, 8192))]
    )
    def test_one_that_is_too_large_is_fitted_and_the_caller_told(self, model, source):
        resolved = self.filled(model, source)
        width, height = resolved.params.width, resolved.params.height
        assert width * height <= CATALOG[model].limits.max_pixels
        assert f"the picture is {source[0]}x{source[1]}, the result {width}x{height}" in resolved.warnings[0]

    def test_one_that_is_asked_for_is_taken_and_a_change_of_shape_is_told(self):
        assert self.filled("demo-fill", (250, 125), width=256, height=128).warnings == ()
        resolved = self.filled("demo-fill", (250, 125), width=256, height=256)
        assert (resolved.params.width, resolved.params.height) == (256, 256)
        assert "the picture is 250x125 and is stretched to 256x256" in resolved.warnings[0]

    @given(st.sampled_from(["fill", "demo-fill"]), st.integers(16, 8192), st.integers(16, 8192))
    def test_the_model_s_size_is_always_within_its_limits(self, model, width, height):
        limits, grid = CATALOG[model].limits, self.filled(model, (width, height)).params.grid_size
        assert all(side % SIDE_MULTIPLE == 0 for side in grid)
        assert limits.min_side <= min(grid) <= max(grid) <= limits.max_side
        assert grid[0] * grid[1] <= limits.max_pixels


CONDITIONING = ("negative_prompt", "sampler", "strength", "ip_adapter_scale")


class TestConditioning:
    """What a generate job may ask for beside words and a size."""

    def conditioned(self, model, asked=None, size=None, has_reference=False):
        asked = {"prompt": "x", **(asked or {})}
        resolved = resolve(CATALOG[model], JobKind.GENERATE, asked, size, has_reference=has_reference)
        return resolved.params.model_dump(include=set(CONDITIONING), exclude_none=True)

    def test_a_model_without_such_things_has_them_unset(self):
        assert self.conditioned("schnell") == {}

    def test_defaults_come_with_what_is_used(self):
        assert self.conditioned("sd15") == {"sampler": "DPM++ 2M Karras"}
        assert self.conditioned("dev", size=(512, 512)) == {"strength": 0.6}
        assert self.conditioned("dev", has_reference=True) == {"ip_adapter_scale": 1.0}

    def test_what_is_asked_for_is_kept(self):
        asked = {"negative_prompt": "blurry", "sampler": "Euler a", "strength": 0.5, "ip_adapter_scale": 0.0}
        assert self.conditioned("sd15", asked, (512, 512), has_reference=True) == asked

    def test_an_empty_negative_prompt_asks_for_nothing(self):
        assert self.conditioned("schnell", {"negative_prompt": ""}) == {}

    @pytest.mark.parametrize(
        ("model", "asked", "field"),
        [
            ("schnell", {"negative_prompt": "blurry"}, "negative_prompt"),
            ("dev", {"sampler": "Euler"}, "sampler"),
            ("sd15", {"sampler": "euler"}, "sampler"),
        ],
    )
    def test_what_the_model_cannot_do_is_refused(self, model, asked, field):
        with pytest.raises(CapabilityError) as refused:
            self.conditioned(model, asked)
        assert refused.value.details["field"] == field
        assert "limit" in refused.value.details

    def test_a_reference_for_a_model_without_adapter_is_refused(self):
        with pytest.raises(CapabilityError, match="schnell has no image-prompt adapter"):
            self.conditioned("schnell", has_reference=True)

    @pytest.mark.parametrize("asked", [{"strength": 0.5}, {"ip_adapter_scale": 0.5}])
    def test_a_value_for_a_picture_that_was_not_sent_is_refused(self, asked):
        with pytest.raises(RequestError, match="send"):
            self.conditioned("sd15", asked)

    @pytest.mark.parametrize("strength", [1 / 49, 0.9 / 49, 1e-300])
    def test_a_strength_that_no_step_would_run_for_is_refused(self, strength):
        # int(49 * (1 / 49)) is 0: the same arithmetic as the pipelines'
        with pytest.raises(RequestError, match="less than one step"):
            self.conditioned("dev", {"strength": strength, "num_inference_steps": 49}, (512, 512))

    @pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0, 1.5])
    def test_a_value_outside_its_range_names_its_field(self, value):
        with pytest.raises(RequestError) as refused:
            self.conditioned("dev", {"strength": value}, (512, 512))
        assert refused.value.details["field"] == "strength"

    def test_a_picture_to_start_from_gives_the_size(self):
        resolved = resolve(CATALOG["dev"], JobKind.GENERATE, {"prompt": "x"}, (1600, 800))
        assert resolved.params.width / resolved.params.height == pytest.approx(2, rel=0.03)
        assert resolved.params.width * resolved.params.height <= 1024**2
        assert "the picture is 1600x800" in resolved.warnings[0]


class TestStepCache:
    """Skipping steps is asked for, and only where there are enough of them."""

    @pytest.mark.parametrize("spec", CATALOG.values(), ids=lambda spec: spec.model)
    def test_it_is_for_the_flux_models_of_many_steps(self, spec):
        takes_it = "first_block" in step_caches(spec)
        assert takes_it == (spec.model in {"dev", "kontext", "fill", "demo-kontext", "demo-fill"})
        assert takes_it == (spec.capabilities.step_cache_threshold is not None)

    def test_the_threshold_is_the_model_s_own_or_the_one_that_is_given(self):
        def resolved(**asked):
            return resolve(CATALOG["dev"], JobKind.GENERATE, {"prompt": "x", "step_cache": "first_block", **asked})

        assert resolved().params.step_cache_threshold == 0.08
        assert resolved(step_cache_threshold=0.2).params.step_cache_threshold == 0.2

    @pytest.mark.parametrize("asked", [{}, {"step_cache": "off"}, {"step_cache": None}])
    def test_without_one_the_job_says_nothing_of_it(self, asked):
        params = resolve(CATALOG["dev"], JobKind.GENERATE, {"prompt": "x", **asked}).params
        assert (params.step_cache, params.step_cache_threshold) == (None, None)

    def test_a_model_of_few_steps_refuses_it_and_says_what_there_is(self):
        with pytest.raises(CapabilityError, match="schnell takes no step cache") as refused:
            resolve(CATALOG["schnell"], JobKind.GENERATE, {"prompt": "x", "step_cache": "first_block"})
        assert refused.value.details == {"field": "step_cache", "limit": ["off"]}

    @pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0, 1.5])
    def test_a_threshold_outside_its_range_names_its_field(self, value):
        asked = {"prompt": "x", "step_cache": "first_block", "step_cache_threshold": value}
        with pytest.raises(RequestError) as refused:
            resolve(CATALOG["dev"], JobKind.GENERATE, asked)
        assert refused.value.details["field"] == "step_cache_threshold"

    def test_a_threshold_without_a_cache_is_refused(self):
        with pytest.raises(RequestError, match="step_cache: first_block"):
            resolve(CATALOG["dev"], JobKind.GENERATE, {"prompt": "x", "step_cache_threshold": 0.1})


def test_parameters_that_were_stored_before_there_was_conditioning_still_read():
    stored = {
        "kind": "generate", "prompt": "x", "num_inference_steps": 4, "guidance_scale": 0.0,
        "width": 256, "height": 256, "seed": 1, "num_images": 1,
    }  # fmt: skip
    read = PARAMS_ADAPTER.validate_python(stored).model_dump(exclude_none=True)
    assert read == read | stored


class TestFitSize:
    @given(st.sampled_from(list(CATALOG.values())), st.integers(16, 8192), st.integers(16, 8192), st.booleans())
    def test_the_result_is_always_within_limits(self, spec, width, height, native):
        # Given any upload, when it is fitted to a pixel budget that the smallest allowed square fits
        budget = spec.native_side**2 if native else spec.limits.max_pixels
        fitted = fit_size((width, height), spec.limits, budget, grow=spec.scales_source_up)
        # Then both sides are on the grid and within limits, and the area within the budget
        assert all(side % SIDE_MULTIPLE == 0 for side in fitted)
        assert all(spec.limits.min_side <= side <= spec.limits.max_side for side in fitted)
        assert fitted[0] * fitted[1] <= budget

    def test_a_size_that_fits_stays(self):
        assert fit_size((512, 256), CATALOG["demo"].limits, 768 * 768) == (512, 256)

    def test_the_shape_is_kept_when_scaled_down(self):
        width, height = fit_size((4000, 3000), CATALOG["kontext"].limits, 1024**2)
        assert width / height == pytest.approx(4 / 3, rel=0.02)


TRAINED = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104),
    (1024, 1024),
    (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip
"""PREFERRED_KONTEXT_RESOLUTIONS of diffusers 0.42.1, as (width, height)."""


class TestSmallSources:
    """Of edits: scaled up for a model that was trained at about a megapixel, left alone for one that was not."""

    def edited(self, model, source, **asked):
        return resolve(CATALOG[model], JobKind.EDIT, {"prompt": "x", **asked}, source)

    @pytest.mark.parametrize("size", TRAINED)
    @pytest.mark.parametrize("share", [0.3, 0.5, 2])
    def test_kontext_makes_the_size_it_was_trained_at_of_any_source(self, size, share):
        # Given a source in the shape of a trained size, smaller or larger
        source = tuple(round(side * share) for side in size)
        params = self.edited("kontext", source).params
        # Then the result is that size, to the next but one of the 16-pixel grid
        assert (params.width, params.height) == pytest.approx(size, abs=2 * SIDE_MULTIPLE)
        assert 0.93 * 1024**2 <= params.width * params.height <= 1024**2

    def test_the_job_states_the_size_and_why(self):
        resolved = self.edited("kontext", (512, 384))
        assert resolved.warnings == (
            "the picture is 512x384, the result 1184x880: about the size kontext was trained at; "
            "pass width and height to choose another",
        )

    def test_a_size_that_was_asked_for_is_kept(self):
        resolved = self.edited("kontext", (512, 384), width=512, height=384)
        assert (resolved.params.width, resolved.params.height, resolved.warnings) == (512, 384, ())

    def test_the_demo_model_keeps_a_small_source_as_it_is(self):
        resolved = self.edited("demo-kontext", (128, 96))
        assert (resolved.params.width, resolved.params.height, resolved.warnings) == (128, 96, ())
        assert source_size_for(CATALOG["demo-kontext"], (128, 96), (256, 256)) == (128, 96)

    @pytest.mark.parametrize(
        ("source", "result", "read_at"),
        [
            ((512, 512), (1024, 1024), (1024, 1024)),
            ((512, 512), (512, 512), (512, 512)),
            ((512, 512), (1440, 1440), (1024, 1024)),
            ((1440, 1440), (1440, 1440), (1440, 1440)),
            ((2048, 2048), (1024, 1024), (1024, 1024)),
        ],
    )
    def test_the_source_is_read_at_the_result_s_size_up_to_the_trained_one(self, source, result, read_at):
        assert source_size_for(CATALOG["kontext"], source, result) == read_at


class TestFindModel:
    @pytest.mark.parametrize("name", ["schnell", "SCHNELL ", "black-forest-labs/FLUX.1-schnell"])
    def test_id_and_repository_name_the_same_model(self, name):
        assert find_model(name) is CATALOG["schnell"]

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(UnknownModel, match="schnell, dev, kontext"):
            find_model("nosuchmodel")
