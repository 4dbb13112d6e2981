"""Counts of words and sentences in a text, independent of any model's tokenizer.

A word is a segment between Unicode's default word boundaries (UAX #29) that holds a letter or a
number: punctuation is not a word, and a suffix after an apostrophe belongs to its word. In scripts
that are written without spaces (Thai, Lao, Khmer, Burmese, Han, kana), these rules do not find
words, so word counts mean nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

# The WORD flag selects the default boundaries of Unicode instead of changes of \w.
BOUNDARY = regex.compile(r"\b", regex.VERSION1 | regex.WORD)
WORD_SIGN = regex.compile(r"[\p{L}\p{N}]")
UNSPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}]")
SENTENCE_END = regex.compile(r"(?<=[.!?…؟۔।॥։።])[\p{Pf}\p{Pe}\"']*\s+|(?<=[。！？])|[\r\n]+")


def count_words(text: str) -> int:
    """Count the words of a text.

    >>> count_words("Don't stop: 3.14 कहानियाँ!")
    4
    """
    return len(split_words(text))


def split_words(text: str) -> list[str]:
    """Return the words of a text."""
    return [segment for segment in BOUNDARY.split(text) if WORD_SIGN.search(segment)]


def count_sentences(text: str) -> int:
    """Count the sentences of a text.

    A sentence has a letter or a number. It ends at the end of a line, or at a full stop, question
    mark or exclamation mark of any script. A full stop after an abbreviation counts as an end, too.

    >>> count_sentences("It is 3.14. वह गया। क्यों? yes"), count_sentences("他来了。她走了。")
    (4, 2)
    >>> count_sentences("…")
    0
    """
    return len([part for part in SENTENCE_END.split(text) if WORD_SIGN.search(part)])


def is_unspaced(documents: Sequence[str]) -> bool:
    """Return whether most letters of the first 100 documents are of a script without spaces."""
    # A sample is enough to tell the script, and keeps long corpora fast.
    sample = "".join(document[:1000] for document in documents[:100])
    letters = len(WORD_SIGN.findall(sample))
    return letters > 0 and len(UNSPACED.findall(sample)) > letters / 2
