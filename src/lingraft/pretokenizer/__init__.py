"""Pre-tokenizers of byte-level models: reading them, repairing them, and the effects."""

from lingraft.pretokenizer.mark_aware import (
    MARK_AWARE_WORD,
    make_mark_aware,
    mark_aware_pattern,
    split_patterns,
)
from lingraft.pretokenizer.partial_characters import completions
from lingraft.pretokenizer.reachable_tokens import newly_reachable, split_where_always_cut
from lingraft.pretokenizer.scripts import SAMPLES, SENTENCES, ScriptChange, find_changed_scripts

__all__ = [
    "MARK_AWARE_WORD",
    "SAMPLES",
    "SENTENCES",
    "ScriptChange",
    "completions",
    "find_changed_scripts",
    "make_mark_aware",
    "mark_aware_pattern",
    "newly_reachable",
    "split_patterns",
    "split_where_always_cut",
]
