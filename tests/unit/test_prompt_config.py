from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import CATALOG
from shared.domain.capabilities import resolve
from shared.domain.errors import CapabilityError, RequestError
from shared.domain.params import JobKind
from shared.domain.prompt_config import PromptConfig
from shared.domain.samplers import SAMPLERS
from tests.builders import params


def resolved(model, config, **more):
    return resolve(CATALOG[model], JobKind.GENERATE, {"prompt": config.prompt, **config.options()}, **more).params


def test_fields_and_defaults_are_those_its_owner_fixed():
    assert {field.name: field.default for field in fields(PromptConfig) if field.name != "prompt"} == {
        "negative_prompt": "",
        "steps": 35,
        "cfg_scale": 7.0,
        "seed": 42,
        "sampler": "DPM++ 2M Karras",
        "strength": 0.7,
        "enhance_prompt_option": False,
    }
    assert next(iter(fields(PromptConfig))).name == "prompt"


@pytest.mark.parametrize("model", ["schnell", "dev", "sd15", "sdxl", "demo"])
def test_defaults_become_the_model_s_own_with_one_warning(model):
    config = PromptConfig("a fox")
    spec, given = CATALOG[model], resolved(model, config)
    assert (given.num_inference_steps, given.guidance_scale) == (spec.num_inference_steps, spec.guidance_scale)
    assert (given.seed, given.negative_prompt) == (42, None)
    assert config.warning().startswith("steps, cfg_scale, sampler, strength: left at PromptConfig's defaults")


def test_values_that_were_chosen_are_used():
    config = PromptConfig("a fox", "blurry", 20, 5.5, 7, "Euler a", 0.5)
    given = resolved("sd15", config, source_size=(512, 512))
    assert PromptConfig.from_params(given) == config
    assert config.warning() is None


@pytest.mark.parametrize(
    ("changes", "field"), [({"negative_prompt": "blurry"}, "negative_prompt"), ({"sampler": "Euler a"}, "sampler")]
)
def test_what_the_model_cannot_do_is_refused(changes, field):
    with pytest.raises(CapabilityError) as refused:
        resolved("schnell", PromptConfig("a fox", **changes))
    assert refused.value.details["field"] == field


def test_a_strength_without_a_picture_is_not_dropped():
    with pytest.raises(RequestError, match="strength"):
        resolved("sd15", PromptConfig("a fox", strength=0.5))


def test_the_wish_for_a_better_prompt_is_passed_on():
    assert "enhance" not in PromptConfig("a fox").asked()
    assert PromptConfig("a fox", enhance_prompt_option=True).asked() == {"prompt": "a fox", "seed": 42, "enhance": True}


def test_parameters_of_old_jobs_convert():
    assert PromptConfig.from_params(params(seed=5)) == PromptConfig("a red circle", steps=4, cfg_scale=0.0, seed=5)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"steps": 0}, "steps"),
        ({"steps": True}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"cfg_scale": -1}, "cfg_scale"),
        ({"cfg_scale": float("nan")}, "cfg_scale"),
        ({"seed": -2}, "seed"),
        ({"seed": 2**60}, "seed"),
        ({"sampler": ""}, "sampler"),
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.1}, "strength"),
        ({"enhance_prompt_option": "yes"}, "enhance_prompt_option"),
    ],
)
def test_a_value_outside_its_range_names_its_field(changes, field):
    with pytest.raises(RequestError) as refused:
        PromptConfig(**{"prompt": "a fox", **changes})
    assert refused.value.details["field"] == field


@given(
    st.builds(
        PromptConfig,
        prompt=st.just("a fox"),
        negative_prompt=st.text(max_size=9),
        steps=st.integers(4, 99),
        cfg_scale=st.floats(0, 30),
        seed=st.integers(0, 2**40),
        sampler=st.sampled_from(SAMPLERS),
        strength=st.floats(0.3, 1),
    )
)
def test_every_chosen_value_survives_the_way_through_a_job(config):
    back = PromptConfig.from_params(resolved("sd15", config, source_size=(512, 512)))
    chosen = {name for name in ("steps", "cfg_scale", "sampler", "strength") if name not in config.left_to_model()}
    for name in (*chosen, "prompt", "negative_prompt", "seed"):
        assert getattr(back, name) == getattr(config, name)
