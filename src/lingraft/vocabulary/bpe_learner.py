"""Learn BPE tokens on top of a base tokenizer: repeatedly add the token that saves most.

The learner starts from words that the base tokenizer has cut into symbols. The bytes of every two
adjacent symbols are a candidate. The candidate that saves most tokens becomes a token, and every
adjacent pair that spells it is merged. A pair that spells an *earlier* new token is merged as soon
as it appears, as the extended tokenizer will do. Three kinds of candidates are left out: surfaces
that the base has, surfaces that the family or the caller does not allow, and surfaces that the
extended tokenizer would cut into more than two tokens, so that no single merge produces them.

Greedy BPE leaves tokens that no text uses: "abc" needs the intermediate token "ab", and if every
"ab" is followed by "c", the row of "ab" is never read again. Two rules keep such tokens rare:

- A candidate that would leave `k` new tokens unused counts 1 / (1 + `step_cost` x k) of its saving,
  rounded down: it is left out if that is 0. So learning can end before no pair saves a token.
- A candidate that is not valid UTF-8 counts the saving of the most frequent valid token that it
  leads to, because it is useful only as an intermediate token.

Without these rules 184 of 2,000 Thai tokens are unused in the text, with them 2 (Pythia, 1 MB).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lingraft.vocabulary.candidate_queue import CandidateQueue
from lingraft.vocabulary.intermediate_tokens import (
    PartialCharacter,
    is_valid_utf8,
)
from lingraft.vocabulary.pair_index import (
    END,
    PairIndex,
    Places,
    Symbols,
    Weights,
    sum_by_symbol,
    sum_runs,
)
from lingraft.vocabulary.word_counts import CutAlone, WordTable, cut_with_new

Allowed = Callable[[bytes], bool]


@dataclass
class RankedTokens:
    """New tokens in rank order, what each saved in the text, and counts of refused candidates."""

    surfaces: list[bytes] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class BPELearner:
    """The words as symbols, the candidates, and the tokens that were learned so far.

    Args:
        words: the words of the text, cut by the base tokenizer.
        allowed: whether a surface may become a token.
        cut_alone: how the base tokenizer cuts a surface.
        minimum: the least number of tokens that a new token must save.
        step_cost: see the module docstring; 0 is plain greedy BPE.

    `measured_tokens` are the tokens of the measured text as it is cut now; 0 without one.
    """

    def __init__(
        self,
        words: WordTable,
        *,
        allowed: Allowed,
        cut_alone: CutAlone,
        minimum: int = 2,
        step_cost: int = 0,
    ) -> None:
        self.words = words
        self.allowed = allowed
        self.cut_alone = cut_alone
        self.step_cost = step_cost
        self.learned = RankedTokens()
        self.index = PairIndex(words)
        self._measured: Weights | None = None  # of each place, as `index.weight`
        self.measured_tokens = 0
        if words.measured is not None:
            self._measured = np.repeat(words.measured, np.diff(words.starts))
            self.measured_tokens = words.count_tokens(words.measured)
        # Symbols are numbered: tokens of the base, then virtual characters, then new tokens.
        self.surfaces = list(words.surfaces)
        self.virtual_end = len(self.surfaces)
        self.symbol_of: dict[bytes, int] = {}
        for symbol, surface in enumerate(self.surfaces[: words.virtual]):
            if surface:
                self.symbol_of.setdefault(surface, symbol)
        self.rank: dict[bytes, int] = {}
        self.uses: dict[int, int] = {}  # of each new symbol in the text as it is cut now
        self.candidates = CandidateQueue(frozenset(self.symbol_of), allowed, minimum)
        self._places_of_virtual: dict[int, Places] = {}
        self._waiting: list[tuple[int, bytes]] = []  # earlier tokens to merge again, by rank
        # Inert symbols are never part of a pair: those without bytes, and virtual characters.
        inert = [not surface for surface in words.surfaces]
        self._inert: npt.NDArray[np.bool_] = np.array(inert)
        self._inert[words.virtual :] = True
        self._count_pairs()
        self._count_virtual_characters()

    def _count_pairs(self) -> None:
        """Make every adjacent pair of live symbols a candidate."""
        for left, right, count in self.index.index_pairs(self._inert):
            left_surface, right_surface = self.surfaces[left], self.surfaces[right]
            if left_surface and right_surface:  # always: symbols without bytes are inert
                self.candidates.add(left_surface + right_surface, count)

    def _count_virtual_characters(self) -> None:
        """Make every character without a piece a candidate: a token for it replaces its bytes."""
        words = self.words
        places = np.flatnonzero(self.index.symbol >= words.virtual)
        # Sorted once: Korean and Chinese texts have thousands of such characters, and 8,000 with 60
        # places each take 0.1 s, 4 s with a scan for each.
        order = np.argsort(self.index.symbol[places], kind="stable")
        places = places[order]
        symbols = np.arange(words.virtual, self.virtual_end + 1)
        bounds = np.searchsorted(self.index.symbol[places], symbols)
        for i, cost in enumerate(words.costs):
            symbol, own = words.virtual + i, places[bounds[i] : bounds[i + 1]]
            surface = self.surfaces[symbol]
            if surface and self.allowed(surface):
                self._places_of_virtual[symbol] = own
                occurrences = int(self.index.weight[own].sum())
                self.candidates.saving[surface] = occurrences * max(cost - 1, 1)
                self.symbol_of[surface] = symbol

    def run(self, size: int) -> Iterator[bytes]:
        """Learn up to `size` more tokens, and yield each."""
        target = len(self.learned.surfaces) + size
        while len(self.learned.surfaces) < target:
            surface = self.pop_best()
            if surface is None:
                return
            reason = self.find_objection(surface)
            if reason:
                self.learned.left_out[reason] += 1
                self.candidates.refuse(surface)
                continue
            self.accept(surface)
            yield surface

    def pop_best(self) -> bytes | None:
        """Return the candidate of greatest worth, `None` if none is left; accept or refuse it."""
        best = self.candidates.pop_best(self._worth)
        return best[0] if best else None

    @property
    def unused(self) -> list[bytes]:
        """The new tokens that do not occur in the text as it is cut now."""
        surfaces = self.learned.surfaces
        return [surface for surface in surfaces if not self.uses.get(self.symbol_of[surface])]

    def _worth(self, surface: bytes, saving: int) -> int:
        """Return what a candidate counts: its saving, reduced by the rules of the module."""
        if surface in self.symbol_of:  # a character without a piece
            return saving
        splits = self._splits(surface)
        if _can_overlap(splits):
            saving = self.index.count_merges(splits)
        if not self.step_cost:
            return saving
        if not is_valid_utf8(surface):
            partial = PartialCharacter(surface, saving, splits)
            return partial.worth(self.index, self.surfaces, self.allowed, self.step_cost)
        divisor = 1 + self.step_cost * self._count_left_unused(splits, saving)
        return saving // divisor

    def _count_left_unused(self, splits: Sequence[tuple[int, int]], saving: int) -> int:
        """Count the new tokens that would be unused if this candidate were a token.

        Tokens that are not valid UTF-8 do not count: they were accepted as intermediate tokens.
        """
        parts = set()
        for split in splits:
            for part in split:
                # A merge of `saving` places takes at most two uses from a part, at each of them.
                may_be_used_up = 0 < self.uses.get(part, 0) <= 2 * saving
                if may_be_used_up and is_valid_utf8(self.surfaces[part] or b""):
                    parts.add(part)
        if not parts:
            return 0
        taken = Counter[int]()
        for left, right in splits:
            if left in parts or right in parts:
                count = int(self.index.weight[self.index.places_of(left, right)].sum())
                taken[left] += count
                taken[right] += count
        return sum(taken[part] >= self.uses[part] for part in parts)

    def find_objection(self, surface: bytes) -> str:
        """Return why a candidate cannot be a token, or an empty string."""
        virtual = self.words.virtual <= self.symbol_of.get(surface, -1) < self.virtual_end
        if not virtual and len(cut_with_new(surface, self.cut_alone, self.rank)) != 2:
            return "no merge reaches it when it stands alone"
        if self.occurs_in_protected(surface):
            return "it would change protected text"
        return ""

    def occurs_in_protected(self, surface: bytes) -> bool:
        """Return whether a token for this surface would be used in a protected word."""
        first = self.index.first_protected
        if first == len(self.index.symbol):
            return False
        places = self._places_of_virtual.get(self.symbol_of.get(surface, END))
        if places is not None:
            return bool((places >= first).any())
        for left, right in self._splits(surface):
            if (self.index.places_of(left, right) >= first).any():
                return True
        return False

    def _splits(self, surface: bytes) -> list[tuple[int, int]]:
        """Return the pairs of symbols that spell a surface."""
        pairs = []
        for cut in range(1, len(surface)):
            left = self.symbol_of.get(surface[:cut])
            right = self.symbol_of.get(surface[cut:])
            if left is not None and right is not None:
                pairs.append((left, right))
        return pairs

    def accept(self, surface: bytes) -> None:
        """Make a surface a token, and merge it everywhere in the text, which may not contain it."""
        new = len(self.surfaces)
        virtual = self.symbol_of.get(surface)
        self.surfaces.append(surface)
        self.rank[surface] = len(self.rank)
        self.symbol_of[surface] = new
        self.learned.surfaces.append(surface)
        self.candidates.refuse(surface)
        saved = 0
        if virtual is None:
            saved += self._merge_all(surface)
        else:
            # The character becomes one live symbol, which takes part in pairs from now on.
            places = self._places_of_virtual.pop(virtual)
            self.index.symbol[places] = new
            saving = self.words.costs[virtual - self.words.virtual] - 1
            self._reduce_measured(places, saving)
            self.uses[new] = int(self.index.weight[places].sum())
            saved += saving * self.uses[new]
            self._count_new_pairs(places, new)
        # New neighbours may spell earlier tokens. The tokenizer merges the lowest rank first.
        while self._waiting:
            _, earlier = heapq.heappop(self._waiting)
            saved += self._merge_all(earlier)
        self.learned.saved.append(saved)

    def _merge_all(self, surface: bytes) -> int:
        """Merge every pair that spells a new token, and update the savings around it.

        Returns the number of merges, each of which saves one token.
        """
        new = self.symbol_of[surface]
        merges = 0
        for left, right in self._splits(surface):
            places = self.index.places_of(left, right)
            if not len(places):
                continue
            count = int(self.index.weight[places].sum())
            merges += count
            self.uses[new] = self.uses.get(new, 0) + count
            for part in (left, right):
                if part in self.uses:
                    self.uses[part] -= count
            around = self.index.merge(places, new)
            self._reduce_measured(places, 1)
            self._reduce_pairs(around.before, around.before_weights, left, is_before=True)
            self._reduce_pairs(around.after, around.after_weights, right, is_before=False)
            self._count_new_pairs(places, new)
        return merges

    def _reduce_measured(self, places: Places, saving: int) -> None:
        """Subtract what a merge at these places saves in the measured text."""
        if self._measured is not None:
            self.measured_tokens -= saving * int(self._measured[places].sum())

    def _reduce_pairs(
        self, neighbours: Symbols, weights: Weights, merged: int, *, is_before: bool
    ) -> None:
        """Lower the savings of the pairs that a merged symbol formed with its neighbours."""
        own_surface = self.surfaces[merged]
        if own_surface is None:
            return
        for symbol, weight in sum_by_symbol(neighbours, weights):
            other = self.surfaces[symbol]
            if other is not None and self._is_live(symbol):
                surface = other + own_surface if is_before else own_surface + other
                self.candidates.reduce(surface, weight)

    def _count_new_pairs(self, places: Places, new: int) -> None:
        """Count the pairs that a new symbol forms with its neighbours.

        A pair of two new symbols is counted from its left symbol only.
        """
        self._add_pairs(*self.index.following(places), new, is_before=False)
        self._add_pairs(*self.index.preceding(places, new), new, is_before=True)

    def _add_pairs(self, neighbours: Symbols, places: Places, new: int, *, is_before: bool) -> None:
        """Add the pairs of a new symbol to the candidates; index the places of those that are."""
        own_surface = self.surfaces[new]
        assert own_surface is not None  # noqa: S101 - a new symbol has bytes
        weights = self.index.weight[places]
        order = np.argsort(neighbours, kind="stable")
        ordered = places[order]
        for symbol, weight, start, end in sum_runs(neighbours[order], weights[order]):
            other = self.surfaces[symbol]
            if not other or not self._is_live(symbol):
                continue
            if is_before:
                left, right, surface = symbol, new, other + own_surface
            else:
                left, right, surface = new, symbol, own_surface + other
            if surface in self.rank:
                heapq.heappush(self._waiting, (self.rank[surface], surface))
            elif not self.candidates.add(surface, weight):
                continue
            self.index.add_places(left, right, ordered[start:end])

    def _is_live(self, symbol: int) -> bool:
        """Return whether a symbol may be part of a pair."""
        return symbol >= self.virtual_end or not self._inert[symbol]


def _can_overlap(splits: Sequence[tuple[int, int]]) -> bool:
    """Return whether a symbol may be the end of one pair and the start of another one.

    >>> _can_overlap([(7, 7)]), _can_overlap([(1, 2), (2, 1)]), _can_overlap([(1, 5), (2, 4)])
    (True, True, False)
    """
    lefts = {left for left, _ in splits}
    return any(right in lefts for _, right in splits)
