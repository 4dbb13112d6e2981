"""What cuts text before a byte-level model sees it: reading it, repairing it, and what a change of it does."""

from lingraft.pretokenizer.mark_aware import WORD, patterns, repaired, repaired_pattern
from lingraft.pretokenizer.pre_tokens import completions
from lingraft.pretokenizer.reachable_tokens import newly_reachable, parts_of
from lingraft.pretokenizer.scripts import SENTENCES, ScriptChange, touched_scripts

__all__ = [
    "SENTENCES",
    "WORD",
    "ScriptChange",
    "completions",
    "newly_reachable",
    "parts_of",
    "patterns",
    "repaired",
    "repaired_pattern",
    "touched_scripts",
]
