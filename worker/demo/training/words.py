"""After training, `Red`, `RED` and the `left` of `top-left` get the meaning of the word that was trained."""

import torch

from worker.demo.family import Family
from worker.demo.tokenization import word_pieces
from worker.demo.vocabulary import VOCABULARY


@torch.no_grad()
def share_spellings(family: Family) -> None:
    """Copy the T5 embedding of every word to its other spellings."""
    table = family.text_encoder_2.shared.weight
    vocabulary = family.tokenizer_2.get_vocab()
    for word in VOCABULARY:
        pieces = [vocabulary[piece] for piece in word_pieces(word)]
        table[pieces] = table[pieces[0]].clone()
