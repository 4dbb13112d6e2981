"""Which tokens to add: one module for each method, and `extend_tokenizer`, which turns a choice into files."""

from lingraft.selection.append import Append
from lingraft.selection.atomic import Atomic, Nothing
from lingraft.selection.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.selection.continued import Continued
from lingraft.selection.extension import Extension, extend_tokenizer
from lingraft.selection.pruning import Prune, Replace
from lingraft.selection.sizing import AutoSize, ServingCost

__all__ = ["SELECTIONS", "Append", "Atomic", "AutoSize", "Continued", "Extension", "Nothing", "Prune", "Replace",
           "Selected", "Selection", "SelectionRequest", "ServingCost", "extend_tokenizer"]
