r"""The pre-token floor, and the repair that lowers it.

A byte-level tokenizer cuts text by a regular expression before its merges see it, and no token crosses a cut. The
widespread `\p{L}+` knows letters but not combining marks: Indic words fall apart at every vowel sign, and however many
tokens are added, a word costs at least as many as it has such parts. The repair lets marks continue the letters that
they follow, in every place where the expression says `\p{L}+`, and nothing else: where no mark follows a letter, both
expressions match alike, and ids cannot change. Marks stay in the class of "other characters" too: an emoji with a
variation selector, which is a mark, is cut as before.
"""

from __future__ import annotations

from typing import Any

from lingraft.families.byte_level import pre_tokenizers
from lingraft.families.content import Data
from lingraft.families.convert import GPT2_REGEX

LETTERS = r"\p{L}+"
WORD = r"\p{L}(?:[\p{L}\p{M}]|(?<=\p{M})[" + "\u200c\u200d" + "])*"
"""A letter, then letters and marks, and joiners (ZWNJ, ZWJ) after a mark, where conjuncts are steered."""


def repaired_pattern(pattern: str) -> str | None:
    r"""Return the mark-aware form of a regular expression, or `None` where it has no letters-only part.

    >>> repaired_pattern(r" ?\p{L}+| ?[^\s\p{L}\p{N}]+").replace("\u200c\u200d", "..")
    ' ?\\p{L}(?:[\\p{L}\\p{M}]|(?<=\\p{M})[..])*| ?[^\\s\\p{L}\\p{N}]+'
    >>> repaired_pattern(r"[\p{L}\p{M}]+") is None
    True
    """
    if LETTERS not in pattern or r"\p{M}" in pattern:
        return None
    return pattern.replace(LETTERS, WORD)


def patterns(data: Data) -> list[str]:
    """Return the regular expressions that cut text before the model sees it."""
    found = []
    for part in pre_tokenizers(data):
        if part.get("type") == "Split" and "Regex" in part.get("pattern", {}):
            found.append(part["pattern"]["Regex"])
        if part.get("type") == "ByteLevel" and part.get("use_regex", True):
            found.append(GPT2_REGEX)
    return found


def repaired(data: Data) -> Data | None:
    """Return a tokenizer.json whose regular expressions are mark-aware, or `None` where nothing is to be repaired."""
    parts = [_repaired_part(part) for part in pre_tokenizers(data)]
    if all(part is None for part in parts):
        return None
    sequence = [piece for part, mended in zip(pre_tokenizers(data), parts, strict=True) for piece in mended or [part]]
    return {**data, "pre_tokenizer": {"type": "Sequence", "pretokenizers": sequence}}


def _repaired_part(part: dict[str, Any]) -> list[dict[str, Any]] | None:
    if part.get("type") == "Split" and "Regex" in part.get("pattern", {}):
        pattern = repaired_pattern(part["pattern"]["Regex"])
        return pattern and [{**part, "pattern": {"Regex": pattern}}]  # type: ignore[return-value]
    if part.get("type") == "ByteLevel" and part.get("use_regex", True) and not part.get("add_prefix_space"):
        mended = {"Regex": repaired_pattern(GPT2_REGEX)}
        split = {"type": "Split", "pattern": mended, "behavior": "Isolated", "invert": False}
        return [split, {**part, "use_regex": False}]
    return None
