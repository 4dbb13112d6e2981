"""Counting the distinct strings ("units") that a tokenizer's model sees in a corpus.

Most texts are split before each single space first, and the distinct chunks are counted. The
tokenizer's normalizer and pre-tokenizer then run once per distinct chunk instead of once per
occurrence. Memory grows with the number of distinct units, not with the size of the corpus.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

# Regular expressions look ahead in runs of spaces and at the ends of a text, and a dummy prefix
# joins a leading space. Such texts are cut whole.
_RUN_OF_SPACES = re.compile(r"\s \s|  |^ | $")
_BEFORE_WORD = re.compile(r" (?=\w)")
_MAX_CHUNKS = 500_000  # distinct chunks held at a time, about 60 MB

_NEIGHBOURS = (".", "a", "1", "'", "(", "-", "।", "क", "é", "😀")
"""Characters of many kinds, to test whether a tokenizer cuts at a space between any two of them."""
_WORDS = ("a", "the", "नदी", "é", "1")


@dataclass(frozen=True)
class UnitCounter:
    """Counts units with a tokenizer's `cut`, which returns the units of a text in order.

    `prefix` stands for the space before a chunk (see `Family.chunk_prefix`).
    """

    cut: Callable[[str], Iterable[str]]
    prefix: str

    def count(self, texts: Iterable[str]) -> Counter[str]:
        """Count the units of these texts by chunks, with the same result as `count_whole`."""
        if not self.cuts_before_words:
            return self.count_whole(texts)
        units: Counter[str] = Counter()
        chunks: Counter[str] = Counter()
        for text in texts:
            if _RUN_OF_SPACES.search(text):
                units.update(self.cut(text))
                continue
            # The first chunk has no space before it.
            first, *rest = text.split(" ") if self.cuts_at_spaces else _BEFORE_WORD.split(text)
            units.update(self.cut(first))
            chunks.update(rest)
            if len(chunks) > _MAX_CHUNKS:
                self._cut_chunks(chunks, units)
        self._cut_chunks(chunks, units)
        return units

    def count_whole(self, texts: Iterable[str]) -> Counter[str]:
        """Count the units of these texts, each of which is cut as a whole."""
        units: Counter[str] = Counter()
        for text in texts:
            units.update(self.cut(text))
        return units

    @cached_property
    def cuts_before_words(self) -> bool:
        """Whether the tokenizer cuts at a single space between words.

        A unit of EXAONE-MoE holds several words.
        """
        return self._cuts_between(_WORDS, _WORDS)

    @cached_property
    def cuts_at_spaces(self) -> bool:
        """Whether the tokenizer cuts at a single space between any two characters.

        Some do so before words only: a unit of BLOOM continues over the space between full stops.
        """
        return self.cuts_before_words and self._cuts_between(_NEIGHBOURS, _NEIGHBOURS)

    def _cuts_between(self, lefts: Iterable[str], rights: Sequence[str]) -> bool:
        for left in lefts:
            for right in rights:
                apart = [*self.cut(left), *self.cut(self.prefix + right)]
                if [*self.cut(f"{left} {right}")] != apart:
                    return False
        return True

    def _cut_chunks(self, chunks: Counter[str], units: Counter[str]) -> None:
        """Move the counts of chunks to their units."""
        for chunk, count in chunks.items():
            for unit in self.cut(self.prefix + chunk):
                units[unit] += count
        chunks.clear()
