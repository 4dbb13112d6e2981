"""Contamination: evaluation text that occurs in the training text.

`find_seen` reports which evaluation documents occur in training text. The setting `decontaminate`
uses `EvaluationIndex` to drop such training documents.

Text is compared as sequences of words, in NFKC, case folded, with letters, marks and digits only:
differences in case, punctuation and spacing do not hide a match. A document counts as seen if a
training text contains a 13-gram of its words (the length that Brown et al. 2020 use), or all of its
words if it has fewer than 13. A document of fewer than 5 words is skipped, because a match would
mean nothing. In scripts without spaces, every character counts as a word, 50 consecutive ones are
a match, and a document of fewer than 20 is skipped. Words of other scripts in such text stay whole.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

import regex

from lingraft.corpus.script_check import is_unspaced
from lingraft.progress import progress
from lingraft.text_units import UNSPACED_SCRIPTS, letters_in

WORDS = 13
CHARACTERS = 50
MIN_WORDS = 5
MIN_CHARACTERS = 20
"""The same for scripts without spaces: five characters are one or two words of Thai or Chinese."""
_LETTERS, _OF_UNSPACED = r"[\p{L}\p{M}\p{N}]", letters_in(UNSPACED_SCRIPTS)
_UNSPACED = regex.compile(_OF_UNSPACED)
_WORD = regex.compile(
    rf"[{_LETTERS}&&{_OF_UNSPACED}]|[{_LETTERS}--{_OF_UNSPACED}]+", regex.VERSION1
)


def rule_of(language: str) -> str:
    """Return what counts as a match in a language.

    >>> rule_of("th")
    '50 characters in a row (or all of 20 to 49), ignoring case and punctuation'
    """
    count, least, unit = WORDS, MIN_WORDS, "words"
    if is_unspaced(language):
        count, least, unit = CHARACTERS, MIN_CHARACTERS, "characters"
    return (
        f"{count} {unit} in a row (or all of {least} to {count - 1}), ignoring case and punctuation"
    )


def normalised_words(text: str) -> list[str]:
    """Return the words of a text in the form that is compared.

    >>> normalised_words("The cat's “Mat” ﬁts!")
    ['the', 'cat', 's', 'mat', 'fits']
    >>> normalised_words("iPhone手机 15")
    ['iphone', '手', '机', '15']
    """
    words: list[str] = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return words


class EvaluationIndex:
    """Finds evaluation documents in training texts; memory grows with the documents only."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._runs: dict[tuple[str, ...], list[tuple[tuple[str, ...], int]]] = defaultdict(list)
        self.skipped: set[int] = set()
        self.documents = 0
        for document in documents:
            self.add(document)

    def add(self, document: str) -> None:
        """Index a document, or skip it if it is too short."""
        number, self.documents = self.documents, self.documents + 1
        words = normalised_words(document)
        length, least = WORDS, MIN_WORDS
        if _is_mostly_unspaced(words):
            length, least = CHARACTERS, MIN_CHARACTERS
        length = min(len(words), length)
        if length < least:
            self.skipped.add(number)
            return
        runs = {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
        # Indexed by as many first words as all runs have: at few places of a text, a run begins
        # with the same. By two words, 1,500 documents were looked for at 0.3 MB/s instead of 2.
        for run in runs:
            self._runs[run[:MIN_WORDS]].append((run, number))

    def find(self, text: str) -> set[int]:
        """Return the numbers of the documents that a text contains.

        >>> EvaluationIndex(["one two three four five.", "short"]).find("ONE two three four five")
        {0}
        """
        found: set[int] = set()
        words = normalised_words(text) if self._runs else []
        starts = zip(*(words[offset:] for offset in range(MIN_WORDS)), strict=False)
        for begin, start in enumerate(starts):
            for run, number in self._runs.get(start, ()):
                if number not in found and tuple(words[begin : begin + len(run)]) == run:
                    found.add(number)
        return found


def find_seen(documents: Sequence[str], texts: Iterable[str]) -> list[int | None]:
    """Return for each document the number of the first text that contains it, counted from 1.

    0 marks a document that no text contains, `None` one that is too short. The texts are read once.

    >>> documents = ["one two three four five.", "six seven eight nine ten", "too short"]
    >>> find_seen(documents, ["0 one, two three four FIVE"])
    [1, 0, None]
    """
    index = EvaluationIndex(documents)
    found: list[int | None] = [0] * len(documents)
    for number in index.skipped:
        found[number] = None
    if len(index.skipped) == len(documents):
        return found
    with progress("looking for evaluation documents", unit="texts") as advance:
        for place, text in enumerate(texts, start=1):
            for number in index.find(text):
                found[number] = found[number] or place
            advance(1)
    return found


def _is_mostly_unspaced(words: Sequence[str]) -> bool:
    """Return whether most words are characters of scripts without spaces."""
    return 2 * sum(map(bool, map(_UNSPACED.match, words))) > len(words)
