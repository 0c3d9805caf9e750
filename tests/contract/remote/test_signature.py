"""Our options in each Space's words: the table of names, defaults, limits, and the choice of the endpoint."""

import pytest

from shared.domain.errors import CapabilityError
from worker.generators.flux_client.choice import choose_endpoint
from worker.generators.flux_client.signature import read_endpoints


def described(**parameters):
    """An endpoint's description as ``view_api`` gives it; a value of ``...`` makes a parameter required."""
    return {
        "parameters": [
            {
                "label": name.title(),
                "parameter_name": name,
                "parameter_has_default": default is not ...,
                "parameter_default": None if default is ... else default,
                "type": {"type": "number"},
                "python_type": {"type": "float", "description": ""},
                "component": "Number",
            }
            for name, default in parameters.items()
        ],
        "returns": [{"label": "Result", "component": "Image"}],
    }


def endpoints(**named):
    return read_endpoints({"named_endpoints": {f"/{name}": info for name, info in named.items()}})


def bind(parameters, implied=None, **options):
    (endpoint,) = endpoints(infer=described(**parameters))
    return endpoint.bind(options, implied or {}).arguments


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("prompt", "prompt"), ("text", "prompt"),
        ("num_inference_steps", "num_inference_steps"), ("steps", "num_inference_steps"),
        ("num_steps", "num_inference_steps"),
        ("guidance_scale", "guidance_scale"), ("guidance", "guidance_scale"),
        ("input_image", "image"), ("image", "image"), ("mask_image", "mask"),
        ("width", "width"), ("height", "height"), ("seed", "seed"), ("strength", "strength"),
    ],
)  # fmt: skip
def test_an_option_goes_by_the_spaces_name(theirs, ours):
    assert bind({theirs: 0}, **{ours: 3}) == {theirs: 3}


def test_the_space_draws_no_seed_and_makes_one_picture_a_call():
    taken = {"prompt": ..., "seed": 0, "randomize_seed": True, "num_images": 4}
    assert bind(taken, prompt="a fox", seed=5) == {
        "prompt": "a fox", "seed": 5, "randomize_seed": False, "num_images": 1,
    }  # fmt: skip


def test_what_nobody_asked_for_may_be_missing_and_what_somebody_did_may_not():
    assert bind({"prompt": ...}, {"guidance_scale": 0.0}, prompt="a fox", guidance_scale=0.0) == {"prompt": "a fox"}
    with pytest.raises(CapabilityError, match=r"has no guidance_scale; its /infer takes prompt\. Leave") as refusal:
        bind({"prompt": ...}, {"guidance_scale": 0.0}, prompt="a fox", guidance_scale=2.0)
    assert refusal.value.details["field"] == "guidance_scale"


@pytest.mark.parametrize("where", ["type", "python_type"])
def test_a_sliders_ends_are_limits_in_whichever_field_the_server_puts_them(where):
    info = described(prompt=..., steps=4)
    info["parameters"][1][where]["description"] = "numeric value between 1 and 8"
    (endpoint,) = endpoints(infer=info)
    assert endpoint.bind({"num_inference_steps": 8}, {}).arguments["steps"] == 8
    with pytest.raises(CapabilityError, match="num_inference_steps is 9; the Space takes 1 to 8") as refusal:
        endpoint.bind({"num_inference_steps": 9}, {})
    assert refusal.value.details["limit"] == 8


def test_servers_that_name_no_parameters_are_read_by_label():
    info = described(prompt=...)
    del info["parameters"][0]["parameter_name"]
    (endpoint,) = endpoints(infer=info)
    assert [parameter.name for parameter in endpoint.parameters] == ["Prompt"]


class TestChoice:
    MAKE = described(prompt=..., seed=0)
    EDIT = described(input_image=..., prompt=...)
    OTHER = described(x=...)
    GIVEN = frozenset({"prompt", "seed"})

    def chosen(self, wanted=None, given=GIVEN, **named):
        return choose_endpoint(endpoints(**named), wanted, given).api_name

    def test_infer_goes_first(self):
        assert self.chosen(infer=self.MAKE, generate=self.MAKE) == "/infer"

    def test_the_only_one_that_fits(self):
        assert self.chosen(infer=self.OTHER, update=self.OTHER, run=self.MAKE) == "/run"

    def test_a_picture_needs_an_endpoint_that_takes_one(self):
        named = {"infer": self.MAKE, "edit": self.EDIT}
        assert self.chosen(given={"prompt", "image"}, **named) == "/edit"
        assert self.chosen(**named) == "/infer"
        with pytest.raises(CapabilityError, match="the job's mask") as refusal:
            self.chosen(given={"prompt", "image", "mask"}, **named)
        assert refusal.value.details["field"] == "mask"

    @pytest.mark.parametrize("wanted", ["run", "/run"])
    def test_the_owners_choice_holds(self, wanted):
        assert self.chosen(wanted, infer=self.MAKE, run=self.MAKE) == "/run"
