import pytest
from transformers import PreTrainedTokenizerBase

from worker.demo.tokenization import make_clip_tokenizer, make_t5_tokenizer
from worker.demo.vocabulary import VOCABULARY

clip, t5 = make_clip_tokenizer(), make_t5_tokenizer()


@pytest.mark.parametrize(("tokenizer", "marks"), [(clip, 2), (t5, 1)])
def test_every_known_word_is_one_token_of_its_own(tokenizer: PreTrainedTokenizerBase, marks: int) -> None:
    ids = [tokenizer(word).input_ids for word in VOCABULARY]
    assert {len(word) for word in ids} == {1 + marks}
    assert len({tuple(word) for word in ids}) == len(VOCABULARY)


def test_clip_folds_case() -> None:
    assert clip("A Red CIRCLE").input_ids == clip("a red circle").input_ids


def test_t5_knows_other_spellings_and_marks_unknown_words() -> None:
    assert t5.unk_token_id not in t5("Red, TOP-left (circle)").input_ids
    assert t5("a red zebra").input_ids.count(t5.unk_token_id) == 1
