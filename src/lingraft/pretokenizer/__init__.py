"""What cuts text before a byte-level model sees it: reading it, repairing it, and what a change of it does."""

from lingraft.pretokenizer.pieces import completions
from lingraft.pretokenizer.reach import newly_reachable, parts_of
from lingraft.pretokenizer.repair import WORD, patterns, repaired, repaired_pattern
from lingraft.pretokenizer.scripts import SENTENCES, ScriptChange, touched_scripts

__all__ = ["SENTENCES", "WORD", "ScriptChange", "completions", "newly_reachable", "parts_of", "patterns", "repaired",
           "repaired_pattern", "touched_scripts"]
