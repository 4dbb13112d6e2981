r"""Pre-tokenizer regular expressions that do not split words at combining marks.

A byte-level tokenizer splits text by a regular expression before it merges, and no token crosses a
split. The widespread `\p{L}+` matches letters but not combining marks, so Indic words are split at
every vowel sign. The number of these parts is a lower bound of the tokens per word, however many
tokens are added.

The mark-aware form lets marks continue the letters that they follow. It changes every repeated set
that holds letters but no marks, and nothing else: where no mark follows a letter, both expressions
match the same strings, so ids do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
from lingraft.tokenizer.json_format import Data, split_step
from lingraft.tokenizer.learnable_text import JOINERS

# A joiner continues a word only after a mark. At a word's start, or between other characters such
# as emoji, it is split as before.
_AFTER_MARK = rf"(?<=\p{{M}})[{JOINERS}]"
MARK_AWARE_WORD = rf"\p{{L}}(?:[\p{{L}}\p{{M}}]|{_AFTER_MARK})*"
"""The replacement of `\\p{L}+`: a letter, then letters, marks, and joiners after a mark."""

_MARK_AFTER_LETTER = regex.compile(r"(?<=\p{L})\p{M}")
_LETTER, _MARK = CharacterClass(r"\p{L}"), CharacterClass(r"\p{M}")


@lru_cache(maxsize=64)
def mark_aware_pattern(pattern: str) -> str | None:
    r"""Return the mark-aware form of a regular expression.

    Returns `None` where the expression splits no word at a mark, or where its syntax is not known.

    >>> mark_aware_pattern(r" ?\p{L}+| ?[^\s\p{L}\p{N}]+").replace("\u200c\u200d", "..")
    ' ?\\p{L}(?:[\\p{L}\\p{M}]|(?<=\\p{M})[..])*| ?[^\\s\\p{L}\\p{N}]+'
    >>> mark_aware_pattern(r"[\p{L}\p{M}]+") is None
    True
    """
    return replace_repeats(pattern, lacks_marks, _mark_aware, _count_splits_at_marks)


def replace_repeats(
    pattern: str,
    applies: Callable[[Repeat], bool],
    replacement: Callable[[Repeat, str], str],
    count: Callable[[str], int],
) -> str | None:
    """Replace the unlimited repeats of one set to which `applies` is true.

    `replacement` returns the new source of a repeat. `count` counts the places in sample sentences
    where an expression splits a word. Returns `None` where the result does not split at
    fewer of them, or where the syntax is not known.
    """
    try:
        repeats = list(filter(applies, unlimited_repeats(parse(pattern))))
    except UnknownSyntaxError:
        return None
    before = count(pattern)
    if not before or not repeats:
        return None
    result = pattern
    # From the end to the start, so that the positions of the remaining repeats stay valid.
    for repeat in sorted(repeats, key=lambda repeat: -repeat.begin):
        result = result[: repeat.begin] + replacement(repeat, pattern) + result[repeat.end :]
    return result if count(result) < before else None


def lacks_marks(repeat: Repeat) -> bool:
    """Whether a repeated set holds caseless letters that marks follow, but no mark."""
    if not isinstance(repeat.part, CharacterClass):
        return False
    characters = members(repeat.part)
    has_letters = bool(characters[_letters_before_marks()].any())
    # A set with any mark was written with marks in mind. The "other characters" of GPT-2 also hold
    # marks, and stay: an emoji with a variation selector, which is a mark, is split as before.
    return has_letters and not bool((characters & members(_MARK)).any())


def _mark_aware(repeat: Repeat, pattern: str) -> str:
    """Return the source of a repeat in which marks may follow each letter."""
    letters = pattern[repeat.begin : repeat.quantifier]
    quantifier = pattern[repeat.quantifier : repeat.end]
    if letters in {r"\p{L}", r"[\p{L}]"} and quantifier == "+":
        return MARK_AWARE_WORD
    return f"(?:{with_marks(repeat, pattern)}){quantifier}"


def with_marks(repeat: Repeat, pattern: str) -> str:
    """Return an expression for one character of a repeated set and the marks that follow it."""
    letters = pattern[repeat.begin : repeat.quantifier]
    part = repeat.part if isinstance(repeat.part, CharacterClass) else _LETTER
    # A set may hold more than letters, for example digits: marks after those are split as before.
    has_others = bool((members(part) & ~members(_LETTER)).any())
    after_letter = r"(?<=\p{L})" if has_others else ""
    return rf"{letters}(?:{after_letter}\p{{M}}(?:\p{{M}}|{_AFTER_MARK})*)?"


@lru_cache(maxsize=1)
def _letters_before_marks() -> list[int]:
    """Return the caseless letters that a mark follows in the sample sentences."""
    text = "".join(SENTENCES.values())
    letters = {text[match.start() - 1] for match in _MARK_AFTER_LETTER.finditer(text)}
    # A set of capital letters alone matches no word of these scripts: cased letters do not count.
    cased = regex.compile(r"[\p{Lu}\p{Ll}\p{Lt}]")
    return sorted(ord(letter) for letter in letters if not cased.match(letter))


def _count_splits_at_marks(pattern: str) -> int:
    """Count the places in the sample sentences where a pattern splits a letter from its mark."""
    return count_splits(pattern, SENTENCES.values(), _MARK_AFTER_LETTER)


def count_splits(pattern: str, texts: Iterable[str], inside: regex.Pattern[str]) -> int:
    """Count the splits of `pattern` that are at the beginning of a match of `inside`."""
    # `tokenizers` itself splits here: its engine, Oniguruma, differs from Python's in details.
    splitter = pre_tokenizers.Split(Regex(pattern), "isolated")
    count = 0
    for text in texts:
        places = {match.start() for match in inside.finditer(text)}
        for _, (begin, _end) in splitter.pre_tokenize_str(text):
            count += begin in places
    return count


def split_patterns(data: Data) -> list[str]:
    """Return the regular expressions that split text before the model sees it."""
    patterns = []
    for step in steps_of(data):
        if _is_regex_split(step):
            patterns.append(step["pattern"]["Regex"])
        if step.get("type") == "ByteLevel" and step.get("use_regex", True):
            patterns.append(GPT2_REGEX)
    return patterns


def make_mark_aware(data: Data) -> Data | None:
    """Return a tokenizer.json with mark-aware expressions, `None` where nothing changes."""
    return rewrite_expressions(data, mark_aware_pattern)


def rewrite_expressions(data: Data, rewrite: Callable[[str], str | None]) -> Data | None:
    """Return a tokenizer.json with rewritten expressions, `None` where nothing changes.

    `rewrite` returns the new form of an expression, `None` where it stays.
    """
    sequence: list[dict[str, Any]] = []
    changed = mapped_to_bytes = False
    for step in steps_of(data):
        # After a ByteLevel step letters stand for bytes, and \p{M} would match none of them.
        replacement = None if mapped_to_bytes else _rewrite_step(step, rewrite)
        changed = changed or replacement is not None
        mapped_to_bytes = mapped_to_bytes or step.get("type") == "ByteLevel"
        sequence += replacement or [step]
    if not changed:
        return None
    return {**data, "pre_tokenizer": {"type": "Sequence", "pretokenizers": sequence}}


def _is_regex_split(step: dict[str, Any]) -> bool:
    return step.get("type") == "Split" and "Regex" in step.get("pattern", {})


def _rewrite_step(
    step: dict[str, Any], rewrite: Callable[[str], str | None]
) -> list[dict[str, Any]] | None:
    """Return the steps that replace a step, `None` where it stays."""
    if _is_regex_split(step):
        pattern = rewrite(step["pattern"]["Regex"])
        return [{**step, "pattern": {"Regex": pattern}}] if pattern else None
    if step.get("type") != "ByteLevel" or not step.get("use_regex", True):
        return None
    if step.get("add_prefix_space"):
        # After a Split, ByteLevel would put the space before every part instead of before the text.
        return None
    pattern = rewrite(GPT2_REGEX)
    return [split_step(pattern), {**step, "use_regex": False}] if pattern else None
