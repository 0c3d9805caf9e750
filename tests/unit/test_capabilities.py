import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import CATALOG, find_model
from shared.domain.capabilities import fit_size, resolve
from shared.domain.errors import CapabilityError, RequestError, UnknownModel
from shared.domain.params import SIDE_MULTIPLE, JobKind


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


class TestFitSize:
    @given(st.sampled_from(list(CATALOG.values())), st.integers(16, 8192), st.integers(16, 8192), st.booleans())
    def test_the_result_is_always_within_limits(self, spec, width, height, native):
        # Given any upload, when it is fitted to a pixel budget that the smallest allowed square fits
        budget = spec.native_side**2 if native else spec.limits.max_pixels
        fitted = fit_size((width, height), spec.limits, budget)
        # Then both sides are on the grid and within limits, and the area within the budget
        assert all(side % SIDE_MULTIPLE == 0 for side in fitted)
        assert all(spec.limits.min_side <= side <= spec.limits.max_side for side in fitted)
        assert fitted[0] * fitted[1] <= budget

    def test_a_size_that_fits_stays(self):
        assert fit_size((512, 256), CATALOG["demo"].limits, 768 * 768) == (512, 256)

    def test_the_shape_is_kept_when_scaled_down(self):
        width, height = fit_size((4000, 3000), CATALOG["kontext"].limits, 1024**2)
        assert width / height == pytest.approx(4 / 3, rel=0.02)


class TestFindModel:
    @pytest.mark.parametrize("name", ["schnell", "SCHNELL ", "black-forest-labs/FLUX.1-schnell"])
    def test_id_and_repository_name_the_same_model(self, name):
        assert find_model(name) is CATALOG["schnell"]

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(UnknownModel, match="schnell, dev, kontext"):
            find_model("sdxl")
