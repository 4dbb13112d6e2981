"""Evaluation documents that stand in the training text.

Text is compared as sequences of words: NFKC, case folded, letters, marks and digits only, so that punctuation and
spacing hide nothing. A document counts as seen where 13 words of it in a row stand in the training text in the same
order (the length that Brown et al. 2020 use), or, where it has fewer, all of its words. Below 5 words a match says
nothing, and the document is not looked for. In text without spaces between words every character counts as a word, and
50 of them make a match.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import regex

from lingraft.progress import progress

WORDS = 13
CHARACTERS = 50
FEWEST = 5
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_UNSPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}\p{Tibetan}]")
RULE = f"{WORDS} words in a row (or all of {FEWEST} to {WORDS - 1}), case and punctuation apart"


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are compared.

    >>> words_of("The cat's “Mat” ﬁts!")
    ['the', 'cat', 's', 'mat', 'fits']
    """
    words: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        words.extend(word if _UNSPACED.search(word) else (word,))
    return words


def seen_in(documents: Sequence[str], texts: Iterable[str]) -> list[int | None]:
    """Return for each document the number (from 1) of the first text that holds it; 0 where none does.

    `None` marks a document that is too short to be looked for. One pass over the texts; memory follows the documents.

    >>> seen_in(["one two three four five.", "six seven eight nine ten", "too short"], ["0 one, two three four FIVE"])
    [1, 0, None]
    """
    found: list[int | None] = []
    index: dict[tuple[str, str], list[tuple[tuple[str, ...], int]]] = defaultdict(list)
    for number, document in enumerate(documents):
        words = words_of(document)
        length = min(len(words), _length(words))
        found.append(0 if length >= FEWEST else None)
        for run in {tuple(words[i:i + length]) for i in range(len(words) - length + 1)} if length >= FEWEST else ():
            index[run[0], run[1]].append((run, number))
    if not index:
        return found
    with progress("looking for evaluation documents", unit="texts") as advance:
        for place, text in enumerate(texts, start=1):
            words = words_of(text)
            for begin, start in enumerate(pairwise(words)):
                for run, number in index.get(start, ()):
                    if not found[number] and tuple(words[begin:begin + len(run)]) == run:
                        found[number] = place
            advance(1)
    return found


def _length(words: Sequence[str]) -> int:
    """Return how many words make a match: as many characters where most words are characters."""
    single = sum(len(word) == 1 and _UNSPACED.match(word) is not None for word in words)
    return CHARACTERS if 2 * single > len(words) else WORDS
