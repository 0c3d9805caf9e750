import subprocess
import sys

import pytest

from worker.demo.vocabulary import EXAMPLE_PROMPTS, unknown_words


def test_names_each_unknown_word_once_in_order() -> None:
    prompt = "An astronaut, a RED circle and an Astronaut's horse on Mars"
    assert unknown_words(prompt) == ["astronaut", "astronaut's", "horse", "mars"]


@pytest.mark.parametrize("prompt", [p for prompts in EXAMPLE_PROMPTS.values() for p in prompts])
def test_example_prompts_are_understood(prompt: str) -> None:
    assert unknown_words(prompt) == []


def test_needs_no_torch() -> None:
    code = "import sys, worker.demo.vocabulary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
