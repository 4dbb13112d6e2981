"""Which tokens to add: one module for each method, and `extend_tokenizer`, which turns a choice into files."""

from lingraft.selection.append import Append
from lingraft.selection.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.selection.continued import Continued
from lingraft.selection.extension import extend_tokenizer

__all__ = ["SELECTIONS", "Append", "Continued", "Selected", "Selection", "SelectionRequest", "extend_tokenizer"]
