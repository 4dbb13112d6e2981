"""Continuing BPE: which token saves most, given all that is there already; again and again.

The rule, on words that the base tokenizer has cut: every two adjacent symbols spell a candidate; the candidate that
saves most tokens (ties: the smaller bytes) becomes a token, and every adjacent pair that spells it becomes that token.
A pair that spells an *earlier* new token is replaced as soon as it appears, as the extended tokenizer will do. Three
things are left out: surfaces that the base already has (a merge for them would change base text), surfaces that the
family or the caller does not allow, and surfaces that, written alone, would be cut into more than two tokens, so that
no merge could reach them.

The words lie in flat arrays as one linked list. A merge touches only the places where its pair stands; they are
handled together by numpy, which makes 10,000 merges on 12 MB of text a matter of seconds in plain Python.
Cost: O(symbols) memory, O(occurrences) time a merge.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lingraft.selection.reach import CutAlone, cut_with_new
from lingraft.selection.words import Words

Positions = npt.NDArray[np.int64]
Allowed = Callable[[bytes], bool]

_DEAD = -2  # a place whose symbol was absorbed by the one before it
_NONE = -1  # beyond the end of a word


@dataclass
class Learned:
    """New tokens in the order of learning, what each saved in the text, and why candidates were left out."""

    surfaces: list[bytes] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class Learner:
    """The state of learning: words as a linked list of symbols, candidates with what they would save."""

    def __init__(self, words: Words, *, allowed: Allowed, cut_alone: CutAlone, minimum: int = 2) -> None:
        self.words = words
        self.allowed = allowed
        self.cut_alone = cut_alone
        self.minimum = minimum
        self.surfaces = list(words.surfaces)
        self.virtual_end = len(self.surfaces)
        self.ids: dict[bytes, int] = {}
        for symbol, surface in enumerate(self.surfaces[: words.virtual]):
            if surface:
                self.ids.setdefault(surface, symbol)
        self.base_surfaces = frozenset(self.ids)
        self.rank: dict[bytes, int] = {}
        self.gain: dict[bytes, int] = {}
        self.banned: set[bytes] = set()
        self.learned = Learned()
        self._link()
        self._index()
        self._heap: list[tuple[int, bytes]] = []
        self._floor = max(self.gain.values(), default=0) + 1
        self._lower_floor()

    # -- the words ----------------------------------------------------------------------------------------------

    def _link(self) -> None:
        words = self.words
        size = len(words.symbols)
        place = np.arange(size, dtype=np.int32)
        self.symbol = words.symbols.copy()
        self.next = place + 1
        self.previous = place - 1
        lengths = np.diff(words.starts)
        filled = lengths > 0
        self.next[words.starts[1:][filled] - 1] = _NONE
        self.previous[words.starts[:-1][filled]] = _NONE
        self.weight = np.repeat(words.counts, lengths)
        self.first_protected = int(words.starts[words.protected])
        self._absorbed = np.zeros(size, dtype=bool)

    def _index(self) -> None:
        """Find the places of every pair, and of every virtual symbol, and what each candidate would save."""
        places = np.flatnonzero(self.next != _NONE)
        left, right = self.symbol[places], self.symbol[self.next[places]]
        real = self._mergeable(left) & self._mergeable(right)
        places, keys = places[real], left[real].astype(np.int64) << 32 | right[real]
        order = np.argsort(keys, kind="stable")
        self._base_places = places[order].astype(np.int32)
        self._base_keys, self._base_starts = np.unique(keys[order], return_index=True)
        self._base_ends = np.append(self._base_starts[1:], len(order))
        self.places: dict[int, list[Positions]] = {}
        if len(order):
            gains = np.add.reduceat(self.weight[self._base_places], self._base_starts)
            self._count_pairs(self._base_keys.tolist(), gains.tolist())
        self._index_virtual()

    def _index_virtual(self) -> None:
        virtual = np.flatnonzero(self.symbol >= self.words.virtual)
        for cost, symbol in zip(self.words.costs, range(self.words.virtual, self.virtual_end), strict=True):
            places = virtual[self.symbol[virtual] == symbol]
            surface = self.surfaces[symbol]
            if surface and self.allowed(surface):
                self.places[symbol] = [places]
                self.gain[surface] = int(self.weight[places].sum()) * max(cost - 1, 1)
                self.ids[surface] = symbol

    def _mergeable(self, symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Symbols that may be part of a pair: no virtual ones, none without bytes."""
        if not hasattr(self, "_inert"):
            self._inert = np.array([i for i, s in enumerate(self.surfaces[: self.words.virtual]) if not s], np.int32)
        real = (symbols < self.words.virtual) | (symbols >= self.virtual_end)
        return real & ~np.isin(symbols, self._inert) if len(self._inert) else real

    def _count_pairs(self, keys: Sequence[int], gains: Sequence[int]) -> None:
        surfaces = self.surfaces
        for key, gain in zip(keys, gains, strict=True):
            surface = surfaces[key >> 32] + surfaces[key & 0xFFFFFFFF]  # type: ignore[operator]  # mergeable: not None
            self._add_gain(surface, gain)

    # -- the candidates -----------------------------------------------------------------------------------------

    def _add_gain(self, surface: bytes, change: int) -> int:
        known = self.gain.get(surface)
        if known is None:
            if surface in self.banned:
                return 0
            if surface in self.base_surfaces or not self.allowed(surface):
                self.banned.add(surface)
                return 0
            known = 0
        gain = self.gain[surface] = known + change
        return gain

    def _lower_floor(self) -> None:
        """Put the next batch of candidates on the heap: those worth less than the floor, down to half of it."""
        while not self._heap and self._floor > self.minimum:
            ceiling, self._floor = self._floor, max(self._floor // 4, self.minimum)
            self._heap = [(-gain, surface) for surface, gain in self.gain.items() if self._floor <= gain < ceiling]
        heapq.heapify(self._heap)

    def _best(self) -> tuple[bytes, int] | None:
        """Return the candidate that saves most now; entries of the heap may be out of date and are then renewed."""
        while True:
            if not self._heap:
                self._lower_floor()
                if not self._heap:
                    return None
            negative, surface = heapq.heappop(self._heap)
            gain = self.gain.get(surface)
            if gain == -negative:
                return surface, gain
            if gain is not None and self._floor <= gain < -negative:
                heapq.heappush(self._heap, (-gain, surface))

    def run(self, size: int) -> Iterator[bytes]:
        """Learn up to `size` tokens more, yielding each."""
        target = len(self.learned.surfaces) + size
        while len(self.learned.surfaces) < target:
            best = self._best()
            if best is None:
                return
            surface, gain = best
            reason = self._objection(surface)
            if reason:
                self.learned.left_out[reason] += 1
                self.banned.add(surface)
                del self.gain[surface]
                continue
            self._accept(surface, gain)
            yield surface

    def _objection(self, surface: bytes) -> str:
        virtual = self.words.virtual <= self.ids.get(surface, -1) < self.virtual_end
        if not virtual and len(cut_with_new(surface, self.cut_alone, self.rank)) != 2:
            return "no merge reaches it when it stands alone"
        if self.first_protected < len(self.symbol) and self._fires_on_protected(surface):
            return "it would change protected text"
        return ""

    def _fires_on_protected(self, surface: bytes) -> bool:
        virtual = self.ids.get(surface, _NONE)
        if virtual in self.places:  # a character without a piece; pairs have keys far beyond symbols
            return bool((self.places[virtual][0] >= self.first_protected).any())
        return any((self._current(l, r) >= self.first_protected).any() for l, r in self._splits(surface))

    # -- merging ------------------------------------------------------------------------------------------------

    def _accept(self, surface: bytes, gain: int) -> None:
        new = len(self.surfaces)
        virtual = self.ids.get(surface)
        self.surfaces.append(surface)
        self.rank[surface] = len(self.rank)
        self.ids[surface] = new
        self.learned.surfaces.append(surface)
        self.learned.saved.append(gain)
        del self.gain[surface]
        self.banned.add(surface)
        self._waiting: list[tuple[int, bytes]] = []
        if virtual is not None:
            self._promote(virtual, new)
        else:
            self._merge_all(surface)
        while self._waiting:  # pairs that spell an earlier token, lowest rank first, as the tokenizer would
            _, earlier = heapq.heappop(self._waiting)
            self._merge_all(earlier)

    def _merge_all(self, surface: bytes) -> None:
        for left, right in self._splits(surface):
            places = self._current(left, right)
            if len(places):
                self._merge(places, left, right, self.ids[surface])

    def _splits(self, surface: bytes) -> list[tuple[int, int]]:
        found = []
        for cut in range(1, len(surface)):
            left, right = self.ids.get(surface[:cut]), self.ids.get(surface[cut:])
            if left is not None and right is not None:
                found.append((left, right))
        return found

    def _current(self, left: int, right: int) -> Positions:
        """Return the places where the pair stands now."""
        key = left << 32 | right
        places = self._all_places(key)
        if not len(places):
            return places
        places = places[self.symbol[places] == left]
        after = self.next[places]
        places = places[(after != _NONE) & (self.symbol[after] == right)]
        return _without_overlap(places, self.next) if left == right else places

    def _all_places(self, key: int) -> Positions:
        found = list(self.places.get(key, ()))
        i = int(np.searchsorted(self._base_keys, key))
        if i < len(self._base_keys) and self._base_keys[i] == key:
            found.append(self._base_places[self._base_starts[i] : self._base_ends[i]].astype(np.int64))
        if not found:
            return np.zeros(0, dtype=np.int64)
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    def _promote(self, virtual: int, new: int) -> None:
        """Give a character a token of its own: from now on it takes part in pairs."""
        (places,) = self.places.pop(virtual)
        self.symbol[places] = new
        self._count_new(places, new)

    def _merge(self, places: Positions, left: int, right: int, new: int) -> None:
        """Replace the pair at these places by one symbol, and tell the pairs around it.

        A place may be the right neighbour of another one (a b a b): what lies between is removed once, and the new
        pair of two new symbols is counted once, from its left.
        """
        absorbed = self.next[places]
        before, after = self.previous[places], self.next[absorbed]
        self._absorbed[absorbed] = True
        free = (before != _NONE) & ~self._absorbed[before]  # -1 reads the last flag, and is masked out
        self._absorbed[absorbed] = False
        self._lose(self.symbol[before[free]], self.weight[places[free]], left, from_left=True)
        open_ = after != _NONE
        self._lose(self.symbol[after[open_]], self.weight[places[open_]], right, from_left=False)
        self.symbol[places] = new
        self.symbol[absorbed] = _DEAD
        self.next[places] = after
        self.previous[after[open_]] = places[open_]
        self._count_new(places, new)

    def _lose(self, neighbours: npt.NDArray[np.int32], weights: npt.NDArray[np.int64], own: int, *,
              from_left: bool) -> None:
        own_surface = self.surfaces[own]
        gain = self.gain
        for symbol, weight, _, _ in _grouped(neighbours, weights):
            other = self.surfaces[symbol]
            if other is None or own_surface is None:
                continue
            surface = other + own_surface if from_left else own_surface + other
            known = gain.get(surface)
            if known is not None and self._real(symbol):
                gain[surface] = known - weight

    def _real(self, symbol: int) -> bool:
        return not self.words.virtual <= symbol < self.virtual_end

    def _count_new(self, places: Positions, new: int) -> None:
        """Count the pairs that a new symbol forms with its neighbours; a pair of two new ones from the left only."""
        after = self.next[places]
        after_places = places[after != _NONE]
        self._gain_pairs(self.symbol[after[after != _NONE]], after_places, new, from_left=False)
        before = self.previous[places]
        keep = before != _NONE
        before = before[keep].astype(np.int64)
        keep = self.symbol[before] != new
        self._gain_pairs(self.symbol[before[keep]], before[keep], new, from_left=True)

    def _gain_pairs(self, neighbours: npt.NDArray[np.int32], places: Positions, new: int, *, from_left: bool) -> None:
        own = self.surfaces[new]
        assert own is not None  # noqa: S101 - a new symbol has bytes
        weights = self.weight[places]
        order = np.argsort(neighbours, kind="stable")
        ordered = places[order]
        for symbol, weight, start, end in _grouped(neighbours[order], weights[order], is_sorted=True):
            other = self.surfaces[symbol]
            if not other or not self._real(symbol):
                continue
            surface, key = (other + own, symbol << 32 | new) if from_left else (own + other, new << 32 | symbol)
            if surface in self.rank:
                heapq.heappush(self._waiting, (self.rank[surface], surface))
            elif surface in self.banned and surface not in self.gain:
                continue
            else:
                gain = self._add_gain(surface, weight)
                if gain >= self._floor:
                    heapq.heappush(self._heap, (-gain, surface))
                if surface not in self.gain:
                    continue
            self.places.setdefault(key, []).append(ordered[start:end])


def _grouped(symbols: npt.NDArray[np.int32], weights: npt.NDArray[np.int64], *,
             is_sorted: bool = False) -> Iterator[tuple[int, int, int, int]]:
    """Yield each distinct symbol with the sum of its weights and its range in sorted order."""
    if not len(symbols):
        return
    if not is_sorted:
        order = np.argsort(symbols, kind="stable")
        symbols, weights = symbols[order], weights[order]
    starts = np.flatnonzero(np.concatenate([[True], symbols[1:] != symbols[:-1]]))
    sums = np.add.reduceat(weights, starts)
    ends = np.append(starts[1:], len(symbols))
    yield from zip(symbols[starts].tolist(), sums.tolist(), starts.tolist(), ends.tolist(), strict=True)


def _without_overlap(places: Positions, following: npt.NDArray[np.int32]) -> Positions:
    """Keep, of a pair of equal symbols (aaa), every second place of a run, from the left."""
    kept: list[int] = []
    taken = _NONE
    for place in np.sort(places).tolist():
        if place != taken:
            kept.append(place)
            taken = int(following[place])
    return np.array(kept, dtype=np.int64)
