r"""Characters inside words that `\p{L}` does not match: apostrophes, joiners and the like.

`\p{L}+` ends a word at the zero-width non-joiner of Persian, the apostrophe of Ukrainian or the
question mark that Armenian writes above a vowel. No added token crosses such a split. Unicode's
word boundaries (UAX #29) do not split words there.

The letter-aware form lets these characters continue a word in the contexts of `RULES`. Each rule
names the letters around the character, so that no English text has such a context: contractions,
possessives, quotation marks and code are split as before. `don't` and Uzbek `o'tgan` have the same
context, so the ASCII apostrophe between Latin letters has no rule. The modifier letters ʻ (U+02BB)
and ʼ (U+02BC) are letters to `\p{L}` and need none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import regex

from lingraft.pretokenizer.mark_aware import (
    count_splits,
    lacks_marks,
    mark_aware_pattern,
    replace_repeats,
    rewrite_expressions,
    with_marks,
)
from lingraft.pretokenizer.regex_syntax import CharacterClass, Repeat, members
from lingraft.pretokenizer.scripts import SAMPLES
from lingraft.tokenizer.json_format import Data
from lingraft.tokenizer.learnable_text import JOINERS


@dataclass(frozen=True)
class InternalRule:
    """Characters that continue a word between certain letters.

    `characters` and `before` are the contents of sets, `after` is an expression. An empty `after`
    means that the character also continues a word at its end.
    """

    language: str
    characters: str
    before: str
    after: str = ""

    @property
    def expression(self) -> str:
        """The rule as a regular expression that matches one character."""
        lookahead = f"(?={self.after})" if self.after else ""
        return f"(?<=[{self.before}])[{self.characters}]{lookahead}"


# Sets are ranges of code points, not \p{Cyrillic}: JavaScript (transformers.js) does not know that.
_APOSTROPHES = "'\u2019"
_CYRILLIC = "\u0400-\u052f"
_HEBREW = "\u05d0-\u05ea"
_ARMENIAN = "\u0531-\u0556\u0561-\u0587"
_INDIC = "\u0900-\u0dff"
_ETHIOPIC = "\u1200-\u135f"
_ADLAM = "\U0001e900-\U0001e94b"
_TIBETAN = "\u0f40-\u0fbc"
# Arabic, Syriac, N'Ko, Indic scripts, Myanmar, Khmer, Mongolian, Javanese and their neighbours.
_JOINING = "\u0600-\u109f\u1780-\u18af\ua840-\uabff"
_VOWELS = "AEIOUaeiouĀĒĪŌŪāēīōū"

RULES = (
    InternalRule("Persian, Kurdish, Indic languages", JOINERS, _JOINING),
    # Only before the letters that follow it in Ukrainian and Belarusian orthography: names in
    # Russian text, such as д'Артаньян, are split as before.
    InternalRule("Ukrainian, Belarusian", _APOSTROPHES, _CYRILLIC, "[ЄІЇЕЁЮЯєіїеёюя]"),
    InternalRule("Assamese, Odia, Bodo", _APOSTROPHES, _INDIC, f"[{_INDIC}]"),
    InternalRule("Tigrinya", _APOSTROPHES, _ETHIOPIC, f"[{_ETHIOPIC}]"),
    InternalRule("Fulani in Adlam", _APOSTROPHES, _ADLAM, f"[{_ADLAM}]"),
    # Geresh and gershayim, also as the ASCII quotes that keyboards give.
    InternalRule("Hebrew", f'"\u05f3\u05f4{_APOSTROPHES}', _HEBREW, f"[{_HEBREW}]"),
    InternalRule("Armenian", "\u055a-\u055c\u055e", _ARMENIAN),
    InternalRule("Western Armenian", _APOSTROPHES, _ARMENIAN, f"[{_ARMENIAN}]"),
    InternalRule("Tibetan", "\u0f0b\u0f0c", _TIBETAN, f"[{_TIBETAN}]"),
    # English has no opening quotation mark after a letter; German has, but at the end of a word.
    InternalRule("Uzbek, Karakalpak", "\u2018", "OoGg", r"\p{L}"),
    InternalRule("Hawaiian and other Polynesian languages", "\u2018", _VOWELS, f"[{_VOWELS}]"),
    InternalRule("Breton", _APOSTROPHES, "Cc", "[Hh]"),
    # Not before the end of a word: mmol·l⁻¹ and mol·L are units.
    InternalRule("Catalan", "\u00b7", "Ll", r"[Ll]\p{L}"),
)

_CHARACTERS = "".join(dict.fromkeys("".join(rule.characters for rule in RULES)))
_ANY_RULE = "|".join(rule.expression for rule in RULES)
# The lookahead keeps the regex fast: without it, every rule is tried after every letter, which
# takes 1.5 times as long on Persian.
INTERNAL = rf"(?:(?=[{_CHARACTERS}])(?:{_ANY_RULE}))?"
"""An expression to put after a letter: a word-internal character, or nothing."""

_LETTERS = CharacterClass(r"[" + "".join(rule.before for rule in RULES) + "&&[\\p{L}]]")
_INTERNAL_CHARACTERS = CharacterClass(f"[{_CHARACTERS}]")
_INTERNAL_AFTER_LETTER = regex.compile(rf"(?<=[\p{{L}}\p{{M}}])(?:{_ANY_RULE})")


@lru_cache(maxsize=64)
def letter_aware_pattern(pattern: str) -> str | None:
    r"""Return the letter-aware form of a regular expression.

    Returns `None` where the expression splits no word at such a character, or where its syntax is
    not known.

    >>> letter_aware_pattern(r" ?\p{L}+| ?[^\s\p{L}\p{N}]+").replace(INTERNAL, "...")
    ' ?(?:\\p{L}...)+| ?[^\\s\\p{L}\\p{N}]+'
    """
    return replace_repeats(pattern, _holds_letters, _letter_aware, _count_splits)


@lru_cache(maxsize=64)
def mark_and_letter_aware_pattern(pattern: str) -> str | None:
    """Return the form that is both mark-aware and letter-aware.

    Returns `None` where one of the two forms does not exist.
    """
    if mark_aware_pattern(pattern) is None or letter_aware_pattern(pattern) is None:
        return None
    return replace_repeats(pattern, _holds_letters, _mark_and_letter_aware, _count_splits)


def make_letter_aware(data: Data) -> Data | None:
    """Return a tokenizer.json with letter-aware expressions, `None` where nothing changes."""
    return rewrite_expressions(data, letter_aware_pattern)


def make_mark_and_letter_aware(data: Data) -> Data | None:
    """Return a tokenizer.json with expressions of both forms, `None` where nothing changes."""
    return rewrite_expressions(data, mark_and_letter_aware_pattern)


def _holds_letters(repeat: Repeat) -> bool:
    """Whether a repeated set holds letters of the rules, but no word-internal character."""
    if not isinstance(repeat.part, CharacterClass):
        return False
    characters = members(repeat.part)
    has_letters = bool((characters & members(_LETTERS)).any())
    return has_letters and not bool((characters & members(_INTERNAL_CHARACTERS)).any())


def _letter_aware(repeat: Repeat, pattern: str) -> str:
    """Return the source of a repeat in which a word-internal character may follow each letter."""
    letters = pattern[repeat.begin : repeat.quantifier]
    return f"(?:{letters}{INTERNAL}){pattern[repeat.quantifier : repeat.end]}"


def _mark_and_letter_aware(repeat: Repeat, pattern: str) -> str:
    """Return the source of a repeat in which marks, too, may follow each letter."""
    if not lacks_marks(repeat):
        return _letter_aware(repeat, pattern)
    letters = with_marks(repeat, pattern)
    return f"(?:{letters}{INTERNAL}){pattern[repeat.quantifier : repeat.end]}"


def _count_splits(pattern: str) -> int:
    """Count the places in the sample sentences where a pattern splits a word at a rule."""
    return count_splits(pattern, SAMPLES.values(), _INTERNAL_AFTER_LETTER)
