r"""The pre-token floor, and the repair that lowers it.

A byte-level tokenizer cuts text by a regular expression before its merges see it, and no token crosses a cut. The
widespread `\p{L}+` knows letters but not combining marks: Indic words fall apart at every vowel sign, and however many
tokens are added, a word costs at least as many as it has such parts. The repair lets marks continue the letters that
they follow, in every repeated set that holds letters and no marks, and changes nothing else: where no mark follows a
letter, both expressions match alike, and ids cannot change. Marks stay in the class of "other characters" too: an emoji
with a variation selector, which is a mark, is cut as before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import regex
from tokenizers import Regex, pre_tokenizers

from lingraft.pretokenizer.regex_syntax import (
    CharacterClass,
    Repeat,
    UnknownSyntaxError,
    members,
    parse,
    unlimited_repeats,
)
from lingraft.pretokenizer.scripts import SENTENCES
from lingraft.tokenizer.byte_level_bpe import pre_tokenizers as steps_of
from lingraft.tokenizer.convert import GPT2_REGEX
from lingraft.tokenizer.json_format import Data

JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ, which steer conjuncts after a mark."""

_AFTER_MARK = rf"(?<=\p{{M}})[{JOINERS}]"
MARK_AWARE_WORD = rf"\p{{L}}(?:[\p{{L}}\p{{M}}]|{_AFTER_MARK})*"
"""What `\\p{L}+` becomes: a letter, then letters and marks, and joiners after a mark."""

_MARK_AFTER_LETTER = regex.compile(r"(?<=\p{L})\p{M}")
_LETTER, _MARK = CharacterClass(r"\p{L}"), CharacterClass(r"\p{M}")


@lru_cache(maxsize=64)
def mark_aware_pattern(pattern: str) -> str | None:
    r"""Return the mark-aware form of an expression, or `None` where it cuts no word at a mark, or cannot be repaired.

    >>> mark_aware_pattern(r" ?\p{L}+| ?[^\s\p{L}\p{N}]+").replace("\u200c\u200d", "..")
    ' ?\\p{L}(?:[\\p{L}\\p{M}]|(?<=\\p{M})[..])*| ?[^\\s\\p{L}\\p{N}]+'
    >>> mark_aware_pattern(r"[\p{L}\p{M}]+") is None
    True
    """
    try:
        found = [run for run in unlimited_repeats(parse(pattern)) if _lacks_marks(run)]
    except UnknownSyntaxError:
        return None
    before = _cuts_at_marks(pattern)
    if not before or not found:
        return None
    result = pattern
    for run in sorted(found, key=lambda run: -run.begin):
        result = result[: run.begin] + _mark_aware(run, pattern) + result[run.end :]
    return result if _cuts_at_marks(result) < before else None


def _lacks_marks(run: Repeat) -> bool:
    """Say whether a repeated set holds letters that marks follow in some script without case, and no mark."""
    if not isinstance(run.part, CharacterClass):
        return False
    held = members(run.part)
    return bool(held[_letters_before_marks()].any()) and not bool((held & members(_MARK)).any())


def _mark_aware(run: Repeat, pattern: str) -> str:
    """Return what stands in place of a run: marks, and joiners after marks, may follow each letter."""
    letters, quantifier = pattern[run.begin : run.quantifier], pattern[run.quantifier : run.end]
    if letters in {r"\p{L}", r"[\p{L}]"} and quantifier == "+":
        return MARK_AWARE_WORD
    held = members(run.part) if isinstance(run.part, CharacterClass) else members(_LETTER)
    after_letter = r"(?<=\p{L})" if bool((held & ~members(_LETTER)).any()) else ""
    return rf"(?:{letters}(?:{after_letter}\p{{M}}(?:\p{{M}}|{_AFTER_MARK})*)?){quantifier}"


@lru_cache(maxsize=1)
def _letters_before_marks() -> list[int]:
    """Return the letters without case that a mark follows in the sample sentences."""
    text = "".join(SENTENCES.values())
    letters = {text[match.start() - 1] for match in _MARK_AFTER_LETTER.finditer(text)}
    return sorted(
        ord(letter) for letter in letters if not regex.match(r"[\p{Lu}\p{Ll}\p{Lt}]", letter)
    )


def _cuts_at_marks(pattern: str) -> int:
    """Count the places in the sample sentences where an expression cuts between a letter and a mark."""
    splitter = pre_tokenizers.Split(Regex(pattern), "isolated")
    count = 0
    for text in SENTENCES.values():
        marks = {match.start() for match in _MARK_AFTER_LETTER.finditer(text)}
        count += sum(begin in marks for _, (begin, _) in splitter.pre_tokenize_str(text))
    return count


def split_patterns(data: Data) -> list[str]:
    """Return the regular expressions that cut text before the model sees it."""
    found = []
    for part in steps_of(data):
        if part.get("type") == "Split" and "Regex" in part.get("pattern", {}):
            found.append(part["pattern"]["Regex"])
        if part.get("type") == "ByteLevel" and part.get("use_regex", True):
            found.append(GPT2_REGEX)
    return found


def make_mark_aware(data: Data) -> Data | None:
    """Return a tokenizer.json whose expressions are mark-aware, or `None` where nothing is to be repaired."""
    sequence: list[dict[str, Any]] = []
    changed = mapped = False
    for part in steps_of(data):
        new = None if mapped else _repaired_part(part)
        changed = changed or new is not None
        mapped = mapped or part.get("type") == "ByteLevel"  # after it, letters stand for bytes
        sequence += new or [part]
    return (
        {**data, "pre_tokenizer": {"type": "Sequence", "pretokenizers": sequence}}
        if changed
        else None
    )


def _repaired_part(part: dict[str, Any]) -> list[dict[str, Any]] | None:
    if part.get("type") == "Split" and "Regex" in part.get("pattern", {}):
        pattern = mark_aware_pattern(part["pattern"]["Regex"])
        return [{**part, "pattern": {"Regex": pattern}}] if pattern else None
    if (
        part.get("type") == "ByteLevel"
        and part.get("use_regex", True)
        and not part.get("add_prefix_space")
    ):
        pattern = mark_aware_pattern(GPT2_REGEX)
        split = {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        return [split, {**part, "use_regex": False}]
    return None
