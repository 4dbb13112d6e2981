"""The words of a text as chains of symbols, in flat arrays: one linked list, with an index of where each pair stands.

A merge touches only the places where its pair stands; they are handled together by numpy, which makes 10,000 merges on
12 MB of text a matter of seconds in plain Python. What was found in the text at the start is kept as one sorted array;
places of pairs that appear later are added by key. Entries may be out of date: `current` looks at what stands there.
Cost: O(symbols) memory, O(occurrences) time a merge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lingraft.vocabulary.word_counts import WordTable

Places = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.int32]
Weights = npt.NDArray[np.int64]

END = -1
"""Beyond the end of a word."""
_DEAD = -2  # a place whose symbol was absorbed by the one before it


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of merged pairs, with how often: what stood before them, and what stood after."""

    before: Symbols
    before_weights: Weights
    after: Symbols
    after_weights: Weights


class PairIndex:
    """Words as symbols; `weight` says how often the word of each place occurs."""

    def __init__(self, words: WordTable) -> None:
        size = len(words.symbols)
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

    def index(self, inert: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
        """Index every pair of symbols that are not inert, and yield each (left, right) with how often it stands."""
        places = np.flatnonzero(self.next != END).astype(np.int32)
        left, right = self.symbol[places], self.symbol[self.next[places]]
        live = ~(inert[left] | inert[right])
        places, keys = places[live], left[live].astype(np.int64)
        keys <<= 32
        keys |= right[live]
        del (
            left,
            right,
            live,
        )  # a text of a million distinct words has ten million symbols: each array counts
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

    def remember(self, left: int, right: int, places: Places) -> None:
        """Add places to the index of a pair."""
        self._later.setdefault(left << 32 | right, []).append(places)

    def current(self, left: int, right: int) -> Places:
        """Return the places where the pair stands now."""
        places = self._indexed(left << 32 | right)
        if not len(places):
            return places
        places = places[self.symbol[places] == left]
        after = self.next[places]
        places = places[(after != END) & (self.symbol[after] == right)]
        return _without_overlap(places, self.next) if left == right else places

    def _indexed(self, key: int) -> Places:
        found = list(self._later.get(key, ()))
        i = int(np.searchsorted(self._keys, key))
        if i < len(self._keys) and self._keys[i] == key:
            found.append(self._places[self._starts[i] : self._ends[i]].astype(np.int64))
        if not found:
            return np.zeros(0, dtype=np.int64)
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    def merge(self, places: Places, new: int) -> Neighbours:
        """Replace the pair at these places by one symbol, and say what stood around it.

        A place may be the right neighbour of another one (a b a b): what lies between is named once.
        """
        absorbed = self.next[places]
        before, after = self.previous[places], self.next[absorbed]
        self._absorbed[absorbed] = True
        free = (before != END) & ~self._absorbed[
            before
        ]  # -1 reads the last flag, and is masked out
        self._absorbed[absorbed] = False
        follows = after != END
        torn = Neighbours(
            self.symbol[before[free]],
            self.weight[places[free]],
            self.symbol[after[follows]],
            self.weight[places[follows]],
        )
        self.symbol[places] = new
        self.symbol[absorbed] = _DEAD
        self.next[places] = after
        self.previous[after[follows]] = places[follows]
        return torn

    def followers(self, places: Places) -> tuple[Symbols, Places]:
        """Return what stands after these places, and the places that something stands after."""
        after = self.next[places]
        follows = after != END
        return self.symbol[after[follows]], places[follows]

    def leaders(self, places: Places, new: int) -> tuple[Symbols, Places]:
        """Return what stands before these places, other than `new` itself, and where it stands."""
        before = self.previous[places]
        before = before[before != END].astype(np.int64)
        before = before[self.symbol[before] != new]
        return self.symbol[before], before


def grouped(symbols: Symbols, weights: Weights) -> Iterator[tuple[int, int]]:
    """Yield each distinct symbol with the sum of its weights."""
    order = np.argsort(symbols, kind="stable")
    for symbol, weight, _, _ in runs(symbols[order], weights[order]):
        yield symbol, weight


def runs(symbols: Symbols, weights: Weights) -> Iterator[tuple[int, int, int, int]]:
    """Yield each distinct one of sorted symbols with the sum of its weights, and where its run begins and ends."""
    if not len(symbols):
        return
    starts = np.flatnonzero(np.concatenate([[True], symbols[1:] != symbols[:-1]]))
    sums = np.add.reduceat(weights, starts)
    ends = np.append(starts[1:], len(symbols))
    yield from zip(
        symbols[starts].tolist(), sums.tolist(), starts.tolist(), ends.tolist(), strict=True
    )


def _without_overlap(places: Places, following: Symbols) -> Places:
    """Keep, of a pair of equal symbols (aaa), every second place of a run, from the left."""
    kept: list[int] = []
    taken = END
    for place in np.sort(places).tolist():
        if place != taken:
            kept.append(place)
            taken = int(following[place])
    return np.array(kept, dtype=np.int64)
