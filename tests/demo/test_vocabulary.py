import subprocess
import sys

import pytest

from shared.catalog import CATALOG
from shared.domain.model import PipelineSpec
from worker.demo.tokenization import MAX_SEQUENCE_LENGTH
from worker.demo.vocabulary import unknown_words


def test_names_each_unknown_word_once_in_order() -> None:
    prompt = "An astronaut, a RED circle and an Astronaut's horse on Mars"
    assert unknown_words(prompt) == ["astronaut", "astronaut's", "horse", "mars"]


def test_needs_no_torch() -> None:
    code = "import sys, worker.demo.vocabulary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spec", [spec for spec in CATALOG.values() if spec.is_demo], ids=lambda spec: spec.model)
def test_the_model_knows_every_word_of_its_example_prompts(spec: PipelineSpec) -> None:
    assert spec.example_prompts
    assert spec.max_sequence_length == MAX_SEQUENCE_LENGTH
    assert [word for prompt in spec.example_prompts for word in unknown_words(prompt)] == []
