"""Two tokenizers made from the project's own vocabulary, in the classes that FLUX pipelines expect."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, T5Tokenizer

from worker.demo.vocabulary import VOCABULARY

MAX_SEQUENCE_LENGTH = 24
"""Tokens of a prompt: pass it as `max_sequence_length`, since the pipelines' 512 are slow and untrained."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_PUNCTUATION = ",.;:!?()'\"-/"


def make_clip_tokenizer() -> CLIPTokenizer:
    """Build a byte-level BPE tokenizer in which every known word is a single token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(VOCABULARY)
    tokens = [_START, _END, *alphabet, *(byte + _WORD_END for byte in alphabet), *map("".join, merges)]
    ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=ids,
        merges=merges,  # annotated as strings, wanted as pairs
        model_max_length=MAX_SEQUENCE_LENGTH,
    )


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Learn byte-pair merges until every word is one symbol; ties go by spelling, so the ids never move."""
    spellings = [[*word[:-1], word[-1] + _WORD_END] for word in words]
    merges = []
    while pairs := Counter(pair for spelling in spellings for pair in pairwise(spelling)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spellings = [_merge(spelling, best) for spelling in spellings]
    return merges


def _merge(spelling: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of the pair, from the left."""
    merged: list[str] = []
    for symbol in spelling:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def make_t5_tokenizer() -> T5Tokenizer:
    """Build a unigram tokenizer in which a known word is one token and an unknown word mostly one `<unk>`."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece, -1.0) for word in VOCABULARY for piece in word_pieces(word)]
    pieces += [(piece, -2.0) for mark in _PUNCTUATION for piece in (mark, "▁" + mark)]
    return T5Tokenizer(vocab=list(dict(pieces).items()), extra_ids=0, model_max_length=MAX_SEQUENCE_LENGTH)


def word_pieces(word: str) -> tuple[str, ...]:
    """List the spellings of a word, the trained one first.

    The T5 class folds no case and puts its word mark only after a blank, so `Red` and the `left` of
    `top-left` are pieces of their own; they share the embedding of the first. Short words get no piece
    without the mark: they would be found inside unknown words (`on` in `astronaut`).
    """
    spellings = (word, word.capitalize(), word.upper())
    marks = ("▁", "") if len(word) > 3 else ("▁",)
    pieces = [mark + spelling for mark in marks for spelling in spellings]
    return tuple(dict.fromkeys(pieces))
