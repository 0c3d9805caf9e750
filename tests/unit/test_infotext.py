"""The text about a picture, read again by the rules of the program whose form it has."""

import json
import re

import pytest

from shared.domain.infotext import infotext
from tests.builders import params

_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""A pair of the last line, as AUTOMATIC1111's web UI reads it."""


def record(**changes):
    return {**params().model_dump(mode="json"), "model": "dev", "generator": "local", **changes}


def read(text):
    """Prompt, negative prompt and settings by that program's rules."""
    *lines, last = text.strip().split("\n")
    settings = {name: json.loads(value) if value[0] == '"' else value for name, value in _PAIR.findall(last)}
    start = next((at for at, line in enumerate(lines) if line.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[start:]).removeprefix("Negative prompt:").strip()
    return "\n".join(lines[:start]), negative, settings


def test_it_says_what_was_done():
    # given
    made = record(
        prompt="a red fox, softly lit", original_prompt='a "red" fox, please', enhanced_by="nemo",
        negative_prompt="blurry, dark", sampler="DPM++ 2M Karras", scheduler="DPMSolverMultistepScheduler",
        num_inference_steps=30, guidance_scale=7.5, strength=0.5, seed=9, width=512, height=768,
        precision="balanced", accelerations=["8_bit_weights", "attention:cudnn"], model_revision="0123abc",
        ip_adapter="ip-adapter-sd15", ip_adapter_scale=0.6,
    )  # fmt: skip

    # when
    prompt, negative, settings = read(infotext(made))

    # then
    assert (prompt, negative) == ("a red fox, softly lit", "blurry, dark")
    assert settings == {
        "Steps": "30", "Sampler": "DPM++ 2M Karras", "Scheduler": "DPMSolverMultistepScheduler", "CFG scale": "7.5",
        "Seed": "9", "Size": "512x768", "Model": "dev", "Model revision": "0123abc", "Denoising strength": "0.5",
        "Precision": "balanced", "Accelerations": "8_bit_weights + attention:cudnn", "IP-Adapter": "ip-adapter-sd15",
        "IP-Adapter scale": "0.6", "Generator": "local", "Enhanced by": "nemo",
        "Original prompt": 'a "red" fox, please',
    }  # fmt: skip


def test_what_is_not_known_is_not_written():
    settings = read(infotext(record()))[2]
    assert "Sampler" not in settings
    assert "Negative prompt" not in infotext(record())


@pytest.mark.parametrize("breaks", ["\n", "\r\n", "\r", "\u2028", "\x85", "\x0b"])
def test_words_of_a_user_cannot_pass_for_settings(breaks: str):
    # given
    lies = breaks.join(("a fox", "Negative prompt: none", "Steps: 99, Sampler: Fake, Seed: 1, Size: 1x1, Model: fake"))

    # when
    text = infotext(record(prompt=lies, negative_prompt=lies, original_prompt=lies, seed=9))

    # then: neither for one who reads lines nor for one who looks for names anywhere
    _, negative, settings = read(text)
    assert (settings["Steps"], settings["Seed"], settings["Model"]) == ("4", "9", "dev")
    assert negative.startswith("a fox")
    for name in ("Steps", "Sampler", "Seed", "Size", "Model", "Negative prompt"):
        found = re.findall(rf"{name}: ?(\S+)", text)
        assert not {"99,", "Fake,", "1,", "1x1,", "fake", "none"} & set(found)
    assert len(text.splitlines()) == 7


def test_words_of_every_language_are_kept():
    assert read(infotext(record(prompt="ein Füchslein – 雪の狐 🦊 ثعلب")))[0] == "ein Füchslein – 雪の狐 🦊 ثعلب"
