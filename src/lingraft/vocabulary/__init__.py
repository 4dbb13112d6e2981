"""Which tokens to add: one module for each method, and `extend_tokenizer`, which turns a choice into files."""

from lingraft.vocabulary.append import Append
from lingraft.vocabulary.auto_size import AutoSize, ServingCost
from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.vocabulary.continued_bpe import ContinuedBPE
from lingraft.vocabulary.pruning import Prune, Replace
from lingraft.vocabulary.tokenizer_extension import Extension, extend_tokenizer
from lingraft.vocabulary.whole_words import Nothing, WholeWords

__all__ = [
    "SELECTIONS",
    "Append",
    "AutoSize",
    "ContinuedBPE",
    "Extension",
    "Nothing",
    "Prune",
    "Replace",
    "Selected",
    "Selection",
    "SelectionRequest",
    "ServingCost",
    "WholeWords",
    "extend_tokenizer",
]
