"""Kinds of characters that text health counts, as tables for whole texts at once.

`kinds_of` maps the code points of a text to kinds with one numpy lookup, which takes about 1 ns a
character. `letters_of` does the same for letters in the scripts of a language and other letters.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import regex

from lingraft.corpus.mojibake import LATER_BYTES
from lingraft.corpus.script_check import is_unspaced, scripts_of

CODE_POINTS = 0x110000
LETTERS_END = 0x34000
"""After the last letter of Unicode 17, and before the tags of plane 14."""
NUL, CONTROL, SOFT_HYPHEN, NO_BREAK_SPACE, INVISIBLE = 1, 2, 3, 4, 5
BIDI, REPLACEMENT, MARKUP, BREAK, MISREAD = 6, 7, 8, 9, 10
"""The kinds; 0 is any other character.

MARKUP can begin a tag or a reference. MISREAD is what a later byte of a UTF-8 character is read as
in other encodings; of these bytes, some are read as characters of other kinds.
"""
IN_SCRIPT, OTHER_SCRIPT = 1, 2

BIDI_MARKS = "\u061c\u200e\u200f"
"""Normal in scripts from right to left: 3.4% of the documents of clean Arabic text have them."""
BIDI_CONTROLS = BIDI_MARKS + "\u202a-\u202e\u2066-\u2069"
# Not the joiners U+200C and U+200D: Persian, the scripts of India and emoji need them.
INVISIBLES = "\u034f\u115f\u1160\u17b4\u17b5\u180e\u2060-\u2064\u3164\ufeff\uffa0"
TAGS = slice(0xE0001, 0xE0080)
"""Invisible characters that spell a hidden text."""
ZERO_WIDTH_SPACE = "\u200b"
"""Separates words in scripts without spaces; in others it is an invisible character."""
CONTROLS = "\x01-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
NO_BREAK_SPACES = "\u00a0\u2007\u202f"
RIGHT_TO_LEFT_SCRIPTS = frozenset({"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg"})

_CHARACTERS = {
    NUL: "\0",
    CONTROL: CONTROLS,
    SOFT_HYPHEN: "\u00ad",
    NO_BREAK_SPACE: NO_BREAK_SPACES,
    INVISIBLE: INVISIBLES + ZERO_WIDTH_SPACE,
    BIDI: BIDI_CONTROLS,
    REPLACEMENT: "\ufffd",
    MARKUP: "<&",
    BREAK: "\n",
}
Codes = np.ndarray[Any, np.dtype[Any]]


def codes_of(text: str) -> Codes:
    """Return the code points of a text; lone surrogates are kept."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


@cache
def kinds_of(language: str, declared: tuple[str, ...] = ()) -> Codes:
    """Return the kind of each code point in text of a language; `declared` are its scripts."""
    table = np.zeros(CODE_POINTS, dtype=np.uint8)
    table[list(map(ord, LATER_BYTES))] = MISREAD
    for kind, characters in _CHARACTERS.items():
        table[find_code_points(f"[{characters}]")] = kind
    table[TAGS] = INVISIBLE
    if is_unspaced(language, declared):
        table[ord(ZERO_WIDTH_SPACE)] = 0
    if RIGHT_TO_LEFT_SCRIPTS.intersection(scripts_of(language, declared)):
        table[list(map(ord, BIDI_MARKS))] = 0
    return table


@cache
def letters_of(language: str, declared: tuple[str, ...] = ()) -> Codes | None:
    """Return for each code point `IN_SCRIPT`, `OTHER_SCRIPT` or 0 if it is no letter.

    `None` for a language without a usual script or declared ones.
    """
    scripts = scripts_of(language, declared)
    if not scripts:
        return None
    table = np.zeros(CODE_POINTS, dtype=np.uint8)
    # With the marks: half of the characters of a Hindi word are vowel signs.
    table[find_code_points(r"[\p{L}\p{M}]+")] = OTHER_SCRIPT
    # Letters of all scripts (modifier letters, and letters that several scripts share) are no sign
    # of another script.
    table[find_code_points(r"[\p{Script=Zyyy}\p{Script=Zinh}]+")] = 0
    for script in scripts:
        table[find_code_points(rf"[\p{{Script={script}}}&&[\p{{L}}\p{{M}}]]+")] = IN_SCRIPT
    return table


@cache
def _every_character() -> str:
    """Return all characters but those of planes without letters, which take most of the time."""
    return "".join(map(chr, range(LETTERS_END)))


def find_code_points(pattern: str) -> Codes:
    """Return the code points that match a regular expression of single characters."""
    matches = regex.compile(pattern, regex.VERSION1).finditer(_every_character())
    runs = [np.arange(*match.span()) for match in matches]
    return np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64)
