"""What is asked for and has no effect, or another one than elsewhere, is said in the job's warnings."""

import pytest

from shared.catalog import CATALOG
from shared.domain.capabilities import resolve
from shared.domain.prompt_syntax import foreign_syntax


def warnings(model="schnell", source_size=None, *, has_reference=False, **asked):
    kind = CATALOG[model].kind
    return resolve(CATALOG[model], kind, {"prompt": "x", **asked}, source_size, has_reference=has_reference).warnings


class TestPromptSyntax:
    @pytest.mark.parametrize(
        ("prompt", "found"),
        [
            ("a (red:1.3) fox", ("(red:1.3)",)),
            ("a (red fox:.8), snow", ("(red fox:.8)",)),
            ("((fox)) in snow", ("((fox))",)),
            ("a [blurry] fox", ("[blurry]",)),
            ("a [cat:dog:0.5]", ("[cat:dog:0.5]",)),
            ("<lora:film:0.8> a fox", ("<lora:film:0.8>",)),
            ("<LoRA:film> a fox", ("<LoRA:film>",)),
            ("a fox embedding:easynegative", ("embedding:easynegative",)),
            ("a {red|blue} fox", ("{red|blue}",)),
            ("a fox BREAK a hare", ("BREAK",)),
            ("a fox AND a hare", ("AND",)),
            ("(a:1.1) (b:1.2) (c:1.3) (d:1.4)", ("(a:1.1)", "(b:1.2)", "(c:1.3)")),
            (f"[{'x' * 100}]", (f"[{'x' * 36}...",)),
        ],
    )
    def test_pieces_of_other_programs_are_found(self, prompt, found):
        assert foreign_syntax(prompt) == found

    @pytest.mark.parametrize(
        "prompt",
        [
            "a fox (small and red) in snow",
            "a clock (at 10:30)",
            "a sign that says SALT AND PEPPER",
            "take a break and rest",
            r"a title \\(the fox:1.3\\)",
            "two numbers 3:4, a < b > c",
        ],
    )
    def test_plain_sentences_are_left_alone(self, prompt):
        assert foreign_syntax(prompt) == ()

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize(
        "piece", ["(", "((", "[", "(a ", "a", "{a", "<lora:", "AND ", "(a:", " ", "__", "embedding:"]
    )
    def test_the_longest_prompts_take_no_time(self, piece):
        foreign_syntax((piece * 4000)[:4000])

    @pytest.mark.parametrize("model", ["schnell", "dev", "sd15", "demo"])
    def test_every_model_s_jobs_say_so(self, model):
        assert "prompt: (fox:1.3) is taken as plain words" in warnings(model, prompt="a (fox:1.3)")[0]

    def test_negative_prompts_are_read_too(self):
        assert "negative_prompt: [blurry] is" in warnings("sd15", negative_prompt="[blurry]")[0]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"model": "schnell", "guidance_scale": 3.5}, "guidance_scale has no effect"),
        ({"model": "sd15", "negative_prompt": "blurry", "guidance_scale": 1.0}, "negative_prompt has no effect"),
        ({"model": "dev", "has_reference": True, "ip_adapter_scale": 0.0}, "reference has no effect"),
        ({"model": "dev", "source_size": (512, 512), "strength": 1.0}, "no more than its size"),
        ({"model": "dev", "source_size": (600, 300), "width": 512, "height": 512}, "stretched to 512x512"),
    ],
)
def test_what_has_no_effect_is_said(asked, says):
    assert [says in warning for warning in warnings(**asked)] == [True]


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "schnell"},
        {"model": "sd15", "negative_prompt": "blurry"},
        {"model": "dev", "has_reference": True, "ip_adapter_scale": 0.1},
        {"model": "dev", "source_size": (512, 512), "strength": 0.9},
        {"model": "kontext", "source_size": (600, 300), "width": 512, "height": 512},
    ],
)
def test_what_has_its_effect_is_not_commented_on(asked):
    assert warnings(**asked) == ()
