"""The unit in which a text is counted: words, syllables or characters; and its sentences.

Tokens are counted per unit. The unit follows from the script of the text (`unit_of`), because words
can only be counted where spaces separate them:

- A *word* is a segment between Unicode's default word boundaries (UAX #29) that holds a letter or a
  number: punctuation is not a word, and a suffix after an apostrophe belongs to its word.
- A *syllable*, in Tibetan and Burmese script, is a syllable of the spelling. In Tibetan it ends at
  a tsheg, another punctuation mark or a space. In Burmese it begins at a letter that is neither
  closed by an asat nor written over another letter: such a letter ends the syllable before it. A
  word or number in another script counts as one syllable, and so does a Chinese character.
- A *character*, in scripts without spaces that do not mark syllables (Thai, Lao, Khmer, Han, kana
  and others), is a Unicode code point, as in the metric "characters per token": marks, spaces and
  punctuation count.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import regex

SYLLABLE_SCRIPTS = frozenset({"Tibt", "Mymr"})
CHARACTER_SCRIPTS = frozenset(
    {"Thai", "Laoo", "Khmr", "Hani", "Hira", "Kana", "Bopo", "Yiii"}
    | {"Bali", "Java", "Lana", "Tale", "Talu"}
)
UNSPACED_SCRIPTS = SYLLABLE_SCRIPTS | CHARACTER_SCRIPTS
"""Codes of the scripts (ISO 15924) that are written without spaces between words."""

MIN_UNSPACED = 0.2
"""From this share of letters in scripts without spaces, the words of a text are not counted.

Half of the content of a Chinese and English text is Chinese if 25% of its letters are: an English
word has more letters than a Chinese one.
"""
_SAMPLE_DOCUMENTS, _SAMPLE_CHARACTERS = 100, 1000


def letters_in(scripts: frozenset[str]) -> str:
    """Return a set of a regular expression: the characters of scripts."""
    return "[" + "".join(rf"\p{{Script={code}}}" for code in sorted(scripts)) + "]"


# The WORD flag selects the default boundaries of Unicode instead of changes of \w.
_BOUNDARY = regex.compile(r"\b", regex.VERSION1 | regex.WORD)
_WORD_SIGN = regex.compile(r"[\p{L}\p{N}]")
# Without marks and punctuation, as `_WORD_SIGN`: shares of letters are compared.
_SYLLABIC = regex.compile(rf"[{letters_in(SYLLABLE_SCRIPTS)}&&[\p{{L}}\p{{N}}]]", regex.VERSION1)
_CHARACTER = regex.compile(rf"[{letters_in(CHARACTER_SCRIPTS)}&&[\p{{L}}\p{{N}}]]", regex.VERSION1)
# Medials (U+103B-103E) and a dot (U+1037) can stand before the asat (U+103A). A letter is stacked
# under the one before it by U+1039.
_BURMESE_ONSET = r"[\p{Script=Mymr}&&\p{Lo}](?![\u1037\u103B-\u103E]*[\u1039\u103A])"
_ONE_CHARACTER = r"[\p{Script=Hani}\p{Script=Hira}\p{Script=Kana}]"
_SYLLABLE = regex.compile(
    rf"{_ONE_CHARACTER}|(?:{_BURMESE_ONSET})?"
    rf"(?:(?!{_BURMESE_ONSET}|{_ONE_CHARACTER})[\p{{L}}\p{{M}}\p{{N}}])*",
    regex.VERSION1,
)
_SENTENCE_END = regex.compile(r"(?<=[.!?…؟۔।॥։።།༎])[\p{Pf}\p{Pe}\"']*\s+|(?<=[。！？])|[\r\n]+")


class TextUnit(StrEnum):
    """What the tokens of a text are counted per."""

    WORD = "word"
    SYLLABLE = "syllable"
    CHARACTER = "character"

    @property
    def metric(self) -> str:
        """The name of fertility in this unit.

        >>> TextUnit.SYLLABLE.metric
        'tokens per syllable'
        """
        return f"tokens per {self}"

    @property
    def kept_whole(self) -> str:
        """The name of the share of units that a tokenizer does not split.

        >>> TextUnit.WORD.kept_whole
        'words kept whole'
        """
        return f"{self}s kept whole"

    @property
    def ratio(self) -> str:
        """The unit of measurements of fertility, and the heading of a column with it."""
        return f"tokens/{self}"

    @property
    def note(self) -> str:
        """What is counted, where it is not words."""
        return _NOTES.get(self, "")

    def split_text(self, text: str) -> list[str]:
        """Return the units of a text.

        >>> TextUnit.WORD.split_text("Don't stop: 3.14!")
        ["Don't", 'stop', '3.14']
        >>> TextUnit.SYLLABLE.split_text("བོད་སྐད། 12"), TextUnit.SYLLABLE.split_text("မြန်မာစာ။")
        (['བོད', 'སྐད', '12'], ['မြန်', 'မာ', 'စာ'])
        >>> TextUnit.CHARACTER.split_text("東京 2")
        ['東', '京', ' ', '2']
        """
        if self is TextUnit.WORD:
            return split_words(text)
        if self is TextUnit.SYLLABLE:
            return [match for match in _SYLLABLE.findall(text) if match]
        return list(text)

    def count_in(self, text: str) -> int:
        """Return the number of units of a text."""
        return len(text) if self is TextUnit.CHARACTER else len(self.split_text(text))


_NOTES = {
    TextUnit.SYLLABLE: "syllables of the spelling: the text has no spaces between words",
    TextUnit.CHARACTER: "Unicode code points: the text has no spaces between words",
}
FERTILITY_METRICS = tuple(unit.metric for unit in TextUnit)
"""The names of fertility; a text has it in one unit."""
KEPT_WHOLE_METRICS = tuple(unit.kept_whole for unit in TextUnit)


def unit_of(documents: Sequence[str]) -> TextUnit:
    """Return the unit in which a text is counted, by the scripts of its letters.

    >>> unit_of(["Ein Satz."]), unit_of(["ภาษาไทย is Thai"]), unit_of(["བོད་སྐད།"])
    (<TextUnit.WORD: 'word'>, <TextUnit.CHARACTER: 'character'>, <TextUnit.SYLLABLE: 'syllable'>)
    """
    # From all of the text, because files often contain one source after another.
    step = -(-len(documents) // _SAMPLE_DOCUMENTS) or 1
    sample = "".join(document[:_SAMPLE_CHARACTERS] for document in documents[::step])
    letters = len(_WORD_SIGN.findall(sample))
    syllabic, characters = len(_SYLLABIC.findall(sample)), len(_CHARACTER.findall(sample))
    if syllabic + characters <= MIN_UNSPACED * letters:
        return TextUnit.WORD
    return TextUnit.SYLLABLE if syllabic > characters else TextUnit.CHARACTER


def count_words(text: str) -> int:
    """Count the words of a text.

    >>> count_words("Don't stop: 3.14 कहानियाँ!")
    4
    """
    return len(split_words(text))


def split_words(text: str) -> list[str]:
    """Return the words of a text."""
    return [segment for segment in _BOUNDARY.split(text) if _WORD_SIGN.search(segment)]


def count_sentences(text: str) -> int:
    """Count the sentences of a text.

    A sentence has a letter or a number. It ends at the end of a line, or at a full stop, question
    mark or exclamation mark of any script. A full stop after an abbreviation counts as an end, too.

    >>> count_sentences("It is 3.14. वह गया। क्यों? yes"), count_sentences("他来了。她走了。")
    (4, 2)
    >>> count_sentences("…")
    0
    """
    return len([part for part in _SENTENCE_END.split(text) if _WORD_SIGN.search(part)])
