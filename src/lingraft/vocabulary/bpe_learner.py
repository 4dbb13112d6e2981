"""Continuing BPE: which token saves most, given all that is there already; again and again.

The rule, on words that the base tokenizer has cut: every two adjacent symbols spell a candidate; the candidate that
saves most tokens becomes a token, and every adjacent pair that spells it becomes that token. Of equals the shorter one
is taken, which more words may hold (Pythia, Hindi, +10,000: 119,844 tokens of held-out text, by bytes alone 119,875),
then the one of smaller bytes. A pair that spells an *earlier* new token is replaced as soon as it appears, as the
extended tokenizer will do. Three things are left out: surfaces that the base already has (a merge for them would change
base text), surfaces that the family or the caller does not allow, and surfaces that, written alone, would be cut into
more than two tokens, so that no merge could reach them.

Greedy BPE leaves tokens behind that no text uses: "abc" needs the step "ab", and where every "ab" stands before a "c",
the row of "ab" is never read again. Two rules keep such rows rare. A candidate that would leave `k` new tokens without
any use counts only 1 / (1 + `step_cost` x k) of what it saves, so that other candidates come first. A candidate that
is no whole UTF-8 text counts what the most frequent whole token behind it saves: it is worth nothing but as a step.
Without the rules, 184 of 2,000 Thai tokens (Pythia, 1 MB) have no use in the text, with them 2.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lingraft.vocabulary.intermediate_tokens import PartialCharacter, is_whole
from lingraft.vocabulary.pair_index import END, PairIndex, Places, Symbols, Weights, grouped, runs
from lingraft.vocabulary.word_counts import CutAlone, WordTable, cut_with_new

Allowed = Callable[[bytes], bool]


@dataclass
class LearnedTokens:
    """New tokens in the order of learning, what each saved in the text, and why candidates were left out."""

    surfaces: list[bytes] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class BPELearner:
    """The state of learning: words as a linked list of symbols, candidates with what they would save."""

    def __init__(
        self,
        words: WordTable,
        *,
        allowed: Allowed,
        cut_alone: CutAlone,
        minimum: int = 2,
        step_cost: int = 0,
    ) -> None:
        self.step_cost = step_cost
        self.uses: dict[int, int] = {}  # of each new symbol, how often it stands in the text now
        self._lowered: set[bytes] = set()  # candidates that count less than they save
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
        self.learned = LearnedTokens()
        self.chain = PairIndex(words)
        self.virtual: dict[int, Places] = {}
        self._waiting: list[tuple[int, bytes]] = []
        self._count_pairs(words)
        self._heap: list[tuple[int, int, bytes]] = []
        self._floor = max(self.gain.values(), default=0) + 1
        self._lower_floor()

    # -- the words ----------------------------------------------------------------------------------------------

    def _count_pairs(self, words: WordTable) -> None:
        """Count what each candidate would save: every pair, and every character without a piece."""
        inert = np.array([not surface for surface in words.surfaces])
        inert[words.virtual :] = True
        surfaces = self.surfaces
        for left, right, count in self.chain.index(inert):
            self._add_gain(surfaces[left] + surfaces[right], count)  # type: ignore[operator]  # live: not None
        self._inert: npt.NDArray[np.bool_] = inert
        places = np.flatnonzero(self.chain.symbol >= words.virtual)
        for cost, symbol in zip(words.costs, range(words.virtual, self.virtual_end), strict=True):
            own = places[self.chain.symbol[places] == symbol]
            surface = surfaces[symbol]
            if surface and self.allowed(surface):
                self.virtual[symbol] = own
                self.gain[surface] = int(self.chain.weight[own].sum()) * max(cost - 1, 1)
                self.ids[surface] = symbol

    def _is_live(self, symbol: int) -> bool:
        """Say whether a symbol may be part of a pair: not one without bytes, nor a character without a piece."""
        return symbol >= self.virtual_end or not self._inert[symbol]

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
        while self._floor > self.minimum and not (self._heap and -self._heap[0][0] >= self._floor):
            ceiling, self._floor = self._floor, max(self._floor // 4, self.minimum)
            self._heap += [
                (-gain, len(surface), surface)
                for surface, gain in self.gain.items()
                if self._floor <= gain < ceiling
            ]
            heapq.heapify(self._heap)

    def _best(self) -> tuple[bytes, int] | None:
        """Return the candidate that is worth most now; entries of the heap may be out of date and are then renewed."""
        while True:
            self._lower_floor()
            if not self._heap:
                return None
            negative, _, surface = heapq.heappop(self._heap)
            gain = self.gain.get(surface)
            if gain is None:
                continue
            worth = self._worth(surface, gain) if gain >= -negative else gain
            if worth >= -negative:
                return surface, gain
            if worth < gain:
                self._lowered.add(surface)
            if worth >= self.minimum:
                heapq.heappush(self._heap, (-worth, len(surface), surface))

    def _worth(self, surface: bytes, gain: int) -> int:
        """Return what a candidate counts: its saving, less where it leaves rows without use; see the module."""
        if not self.step_cost or self.ids.get(surface) is not None:
            return gain
        if not is_whole(surface):
            torn = PartialCharacter(surface, gain, self._splits(surface))
            return torn.worth(self.chain, self.surfaces, self.allowed, self.step_cost)
        return gain // (1 + self.step_cost * self._left_idle(surface, gain))

    def _left_idle(self, surface: bytes, gain: int) -> int:
        """Count the new tokens that would have no use left if this candidate were a token, torn ones aside.

        A torn token is there as a step, and its row was paid for when it was accepted.
        """
        splits = self._splits(surface)
        parts = {
            part for split in splits for part in split if 0 < self.uses.get(part, 0) <= 2 * gain
        }
        parts = {part for part in parts if is_whole(self.surfaces[part] or b"")}
        if not parts:
            return 0
        taken = Counter[int]()
        for left, right in splits:
            if left in parts or right in parts:
                count = int(self.chain.weight[self.chain.current(left, right)].sum())
                taken[left] += count
                taken[right] += count
        return sum(taken[part] >= self.uses[part] for part in parts)

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
        if self.chain.first_protected < len(self.chain.symbol) and self._fires_on_protected(
            surface
        ):
            return "it would change protected text"
        return ""

    def _fires_on_protected(self, surface: bytes) -> bool:
        first = self.chain.first_protected
        virtual = self.ids.get(surface, END)
        if virtual in self.virtual:
            return bool((self.virtual[virtual] >= first).any())
        return any(
            (self.chain.current(left, right) >= first).any()
            for left, right in self._splits(surface)
        )

    @property
    def idle(self) -> list[bytes]:
        """The new tokens that have no use in the text, as it is cut now."""
        return [
            surface for surface in self.learned.surfaces if not self.uses.get(self.ids[surface])
        ]

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
        if (
            virtual is not None
        ):  # a character gets a token of its own: from now on it takes part in pairs
            places = self.virtual.pop(virtual)
            self.chain.symbol[places] = new
            self.uses[new] = int(self.chain.weight[places].sum())
            self._count_new(places, new)
        else:
            self._merge_all(surface)
        while (
            self._waiting
        ):  # pairs that spell an earlier token, lowest rank first, as the tokenizer would
            _, earlier = heapq.heappop(self._waiting)
            self._merge_all(earlier)

    def _merge_all(self, surface: bytes) -> None:
        new = self.ids[surface]
        for left, right in self._splits(surface):
            places = self.chain.current(left, right)
            if len(places):
                self._count_uses(left, right, new, int(self.chain.weight[places].sum()))
                torn = self.chain.merge(places, new)
                self._lose(torn.before, torn.before_weights, left, from_left=True)
                self._lose(torn.after, torn.after_weights, right, from_left=False)
                self._count_new(places, new)

    def _count_uses(self, left: int, right: int, new: int, count: int) -> None:
        self.uses[new] = self.uses.get(new, 0) + count
        for part in (left, right):
            if part in self.uses:
                self.uses[part] -= count

    def _splits(self, surface: bytes) -> list[tuple[int, int]]:
        found = []
        for cut in range(1, len(surface)):
            left, right = self.ids.get(surface[:cut]), self.ids.get(surface[cut:])
            if left is not None and right is not None:
                found.append((left, right))
        return found

    def _lose(self, neighbours: Symbols, weights: Weights, own: int, *, from_left: bool) -> None:
        own_surface = self.surfaces[own]
        gain = self.gain
        for symbol, weight in grouped(neighbours, weights):
            other = self.surfaces[symbol]
            if other is None or own_surface is None:
                continue
            surface = other + own_surface if from_left else own_surface + other
            known = gain.get(surface)
            if known is not None and self._is_live(symbol):
                gain[surface] = known - weight
                if surface in self._lowered and known - weight >= self._floor:
                    self._lowered.discard(
                        surface
                    )  # with fewer places it may leave its parts some use: ask again
                    heapq.heappush(self._heap, (weight - known, len(surface), surface))

    def _count_new(self, places: Places, new: int) -> None:
        """Count the pairs that a new symbol forms with its neighbours; a pair of two new ones from the left only."""
        self._gain_pairs(*self.chain.followers(places), new, from_left=False)
        self._gain_pairs(*self.chain.leaders(places, new), new, from_left=True)

    def _gain_pairs(
        self, neighbours: Symbols, places: Places, new: int, *, from_left: bool
    ) -> None:
        own = self.surfaces[new]
        assert own is not None  # noqa: S101 - a new symbol has bytes
        weights = self.chain.weight[places]
        order = np.argsort(neighbours, kind="stable")
        ordered = places[order]
        for symbol, weight, start, end in runs(neighbours[order], weights[order]):
            other = self.surfaces[symbol]
            if not other or not self._is_live(symbol):
                continue
            left, right, surface = (
                (symbol, new, other + own) if from_left else (new, symbol, own + other)
            )
            if surface in self.rank:
                heapq.heappush(self._waiting, (self.rank[surface], surface))
            elif surface in self.banned and surface not in self.gain:
                continue
            else:
                gain = self._add_gain(surface, weight)
                if gain >= self._floor:
                    heapq.heappush(self._heap, (-gain, len(surface), surface))
                if surface not in self.gain:
                    continue
            self.chain.remember(left, right, ordered[start:end])
