"""The words of a text as a linked list of symbols in flat arrays, with an index of pairs.

A *place* is a position in these arrays. A merge touches only the places of its pair, and numpy
handles all of them together: 10,000 merges on 12 MB of text take seconds. The pairs of the original
text are one sorted array. Places of pairs that appear later are appended under their key. Entries
of the index may be out of date, so `places_of` checks which symbols the places hold now.

Memory is O(symbols), the time of a merge is O(occurrences).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lingraft.vocabulary.word_counts import WordTable

Places = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.int32]
Weights = npt.NDArray[np.int64]

END = -1  # the neighbour of the first and last symbol of a word
_MERGED = -2  # the symbol of a place that was merged into the place before it


@dataclass(frozen=True)
class Neighbours:
    """The symbols before and after merged pairs, with how often each word occurs."""

    before: Symbols
    before_weights: Weights
    after: Symbols
    after_weights: Weights


class PairIndex:
    """The words of a `WordTable`; `weight` is the count of the word of each place."""

    def __init__(self, words: WordTable) -> None:
        size = len(words.symbols)
        # 32 bits are enough for the places, and halve the memory of the links.
        place = np.arange(size, dtype=np.int32)
        self.symbol = words.symbols.copy()
        self.next = place + 1
        self.previous = place - 1
        lengths = np.diff(words.starts)
        filled = lengths > 0
        self.next[words.starts[1:][filled] - 1] = END
        self.previous[words.starts[:-1][filled]] = END
        self.weight = np.repeat(words.counts, lengths)
        self.first_protected = int(words.starts[words.protected])
        self._absorbed = np.zeros(size, dtype=bool)
        self._later: dict[int, list[Places]] = {}
        self._keys: Places = np.zeros(0, dtype=np.int64)
        self._starts: Places = np.zeros(0, dtype=np.int64)
        self._ends: Places = np.zeros(0, dtype=np.int64)
        self._places: Symbols = np.zeros(0, dtype=np.int32)

    def index_pairs(self, inert: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
        """Index every pair of symbols that are not inert; yield (left, right, occurrences)."""
        places = np.flatnonzero(self.next != END).astype(np.int32)
        left, right = self.symbol[places], self.symbol[self.next[places]]
        live = ~(inert[left] | inert[right])
        # A pair is one 64-bit key, so that a single sort groups equal pairs.
        places, keys = places[live], left[live].astype(np.int64)
        keys <<= 32
        keys |= right[live]
        # A million distinct words have ten million symbols: every array that stays alive counts.
        del left, right, live
        # A stable sort keeps the places of a pair in text order.
        order = np.argsort(keys, kind="stable")
        self._places, keys = places[order], keys[order]
        del places, order
        self._starts = np.flatnonzero(
            np.concatenate([np.ones(min(len(keys), 1), dtype=bool), keys[1:] != keys[:-1]])
        )
        self._keys, self._ends = keys[self._starts], np.append(self._starts[1:], len(keys))
        del keys
        if len(self._places):
            counts = np.add.reduceat(self.weight[self._places], self._starts)
            for key, count in zip(self._keys.tolist(), counts.tolist(), strict=True):
                yield key >> 32, key & 0xFFFFFFFF, count

    def add_places(self, left: int, right: int, places: Places) -> None:
        """Add places to the index of a pair."""
        self._later.setdefault(left << 32 | right, []).append(places)

    def places_of(self, left: int, right: int) -> Places:
        """Return the places of the left symbol of each pair (left, right) in the text now."""
        places = self._overlapping_places_of(left, right)
        return _without_overlap(places, self.next) if left == right else places

    def _overlapping_places_of(self, left: int, right: int) -> Places:
        places = self._indexed(left << 32 | right)
        if not len(places):
            return places
        places = places[self.symbol[places] == left]
        after = self.next[places]
        found: Places = places[(after != END) & (self.symbol[after] == right)]
        return found

    def count_merges(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Return how many merges these pairs allow, merged one pair after the other.

        Each symbol can be merged once: `a a a` holds `a a` twice, but allows one merge.
        """
        taken = self._absorbed  # a scratch array, which is False between calls
        chunks: list[Places] = []
        count = 0
        for left, right in pairs:
            places = self._overlapping_places_of(left, right)
            places = places[~(taken[places] | taken[self.next[places]])]
            if left == right:
                places = _without_overlap(places, self.next)
            count += int(self.weight[places].sum())
            chunks += [places, self.next[places].astype(np.int64)]
            taken[chunks[-2]] = taken[chunks[-1]] = True
        for chunk in chunks:
            taken[chunk] = False
        return count

    def _indexed(self, key: int) -> Places:
        """Return all places that were ever indexed under a key, each once."""
        chunks = list(self._later.get(key, ()))
        i = int(np.searchsorted(self._keys, key))
        if i < len(self._keys) and self._keys[i] == key:
            chunks.append(self._places[self._starts[i] : self._ends[i]].astype(np.int64))
        if not chunks:
            return np.zeros(0, dtype=np.int64)
        return chunks[0] if len(chunks) == 1 else np.unique(np.concatenate(chunks))

    def merge(self, places: Places, new: int) -> Neighbours:
        """Replace the pair at each place by one symbol; return the neighbours before the merge.

        The places must not overlap, but two pairs may be adjacent (a b a b). The pair between
        them (b a) is then reported once, as a neighbour after the first place.
        """
        absorbed = self.next[places]
        before, after = self.previous[places], self.next[absorbed]
        self._absorbed[absorbed] = True
        # For END (-1) this reads the flag of the last place, which the first condition masks.
        not_merged_too = (before != END) & ~self._absorbed[before]
        self._absorbed[absorbed] = False
        follows = after != END
        around = Neighbours(
            self.symbol[before[not_merged_too]],
            self.weight[places[not_merged_too]],
            self.symbol[after[follows]],
            self.weight[places[follows]],
        )
        self.symbol[places] = new
        self.symbol[absorbed] = _MERGED
        self.next[places] = after
        self.previous[after[follows]] = places[follows]
        return around

    def following(self, places: Places) -> tuple[Symbols, Places]:
        """Return the symbols after these places, and the places that have one."""
        after = self.next[places]
        follows = after != END
        return self.symbol[after[follows]], places[follows]

    def preceding(self, places: Places, new: int) -> tuple[Symbols, Places]:
        """Return the symbols before these places except `new`, and the places of the symbols."""
        before = self.previous[places]
        before = before[before != END].astype(np.int64)
        before = before[self.symbol[before] != new]
        return self.symbol[before], before


def sum_by_symbol(symbols: Symbols, weights: Weights) -> Iterator[tuple[int, int]]:
    """Yield each distinct symbol with the sum of its weights."""
    order = np.argsort(symbols, kind="stable")
    for symbol, weight, _, _ in sum_runs(symbols[order], weights[order]):
        yield symbol, weight


def sum_runs(symbols: Symbols, weights: Weights) -> Iterator[tuple[int, int, int, int]]:
    """Yield (symbol, sum of weights, start, end) of each run of equal symbols in sorted ones."""
    if not len(symbols):
        return
    starts = np.flatnonzero(np.concatenate([[True], symbols[1:] != symbols[:-1]]))
    sums = np.add.reduceat(weights, starts)
    ends = np.append(starts[1:], len(symbols))
    yield from zip(
        symbols[starts].tolist(), sums.tolist(), starts.tolist(), ends.tolist(), strict=True
    )


def _without_overlap(places: Places, following: Symbols) -> Places:
    """Keep every second place of a run of equal symbols, from the left: aaa holds one pair aa."""
    places = np.sort(places)
    number = np.arange(len(places))
    continues: npt.NDArray[np.bool_] = np.zeros(len(places), dtype=np.bool_)
    continues[1:] = places[1:] == following[places[:-1]]
    run_start = np.maximum.accumulate(np.where(continues, 0, number))
    kept: Places = places[(number - run_start) % 2 == 0]
    return kept
