"""Words and sentences of a text, counted without a tokenizer of any model.

A word is a segment between Unicode's default word boundaries (UAX #29) that holds a letter or a number, so that
punctuation is no word and a suffix after an apostrophe is none of its own. Scripts that are written without spaces
(Thai, Lao, Khmer, Burmese, Han, kana) have no word boundaries by rule: words say nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

BOUNDARY = regex.compile(r"\b", regex.VERSION1 | regex.WORD)
WORD_SIGN = regex.compile(r"[\p{L}\p{N}]")
UNSPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}]")
SENTENCE_END = regex.compile(r"(?<=[.!?…؟۔।॥։።])[\p{Pf}\p{Pe}\"']*\s+|(?<=[。！？])|[\r\n]+")


def words_in(text: str) -> int:
    """Count the words of a text.

    >>> words_in("Don't stop: 3.14 कहानियाँ!")
    4
    """
    return len(words_of(text))


def words_of(text: str) -> list[str]:
    """Return the words of a text."""
    return [segment for segment in BOUNDARY.split(text) if WORD_SIGN.search(segment)]


def sentences_in(text: str) -> int:
    """Count the sentences of a text: stretches with a letter or number, ended by a full stop of any script or a line.

    An abbreviation ends one too; a text without any such end is one sentence.

    >>> sentences_in("It is 3.14. वह गया। क्यों? yes"), sentences_in("他来了。她走了。"), sentences_in("…")
    (4, 2, 0)
    """
    return sum(1 for part in SENTENCE_END.split(text) if WORD_SIGN.search(part))


def is_unspaced(documents: Sequence[str]) -> bool:
    """Say whether most letters are of a script without spaces, judged by the first 100 documents."""
    sample = "".join(document[:1000] for document in documents[:100])
    letters = len(WORD_SIGN.findall(sample))
    return letters > 0 and len(UNSPACED.findall(sample)) > letters / 2
