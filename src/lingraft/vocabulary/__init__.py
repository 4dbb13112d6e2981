"""Vocabulary extension: which tokens to add, and the tokenizer files that hold them.

Each selection method is a module with one registered class. `extend_tokenizer` runs a method on a
corpus, writes the target tokenizer and checks its certificate.
"""

from lingraft.vocabulary.append import Append
from lingraft.vocabulary.auto_size import AutoSize, ServingCost
from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.vocabulary.continued_bpe import ContinuedBPE
from lingraft.vocabulary.learn_tokens import Extension
from lingraft.vocabulary.pruning import Prune, Replace
from lingraft.vocabulary.tokenizer_extension import ExtendedVocabulary, extend_tokenizer
from lingraft.vocabulary.whole_words import Nothing, WholeWords

__all__ = [
    "SELECTIONS",
    "Append",
    "AutoSize",
    "ContinuedBPE",
    "ExtendedVocabulary",
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
