"""Candidates for the next token with what each would save, and a heap that returns the best.

The saving of a candidate changes with almost every merge, so the heap is lazy: its entries may be
out of date, and an entry is compared with the current saving when it is popped. The heap holds only
candidates above a threshold, because most candidates save too little to be ever chosen. The
threshold is lowered when the best candidate of the heap is below it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container

Worth = Callable[[bytes, int], int]


class CandidateQueue:
    """The surfaces that may become tokens, by the number of tokens that each would save.

    `saving` maps each candidate to its saving. `refused` holds surfaces that are never candidates.
    Of candidates with equal worth the shorter one comes first, since more words may contain it:
    with Pythia and 10,000 Hindi tokens, held-out text has 119,844 tokens, and 119,875 if bytes
    alone break ties. Bytes break the remaining ties.
    """

    def __init__(
        self, known: Container[bytes], allowed: Callable[[bytes], bool], minimum: int
    ) -> None:
        self.saving: dict[bytes, int] = {}
        self.refused: set[bytes] = set()
        self._known = known
        self._allowed = allowed
        self._minimum = minimum
        self._heap: list[tuple[int, int, bytes]] = []
        self._threshold: int | None = None
        self._lowered: set[bytes] = set()  # candidates whose worth is below their saving

    def add(self, surface: bytes, change: int) -> bool:
        """Raise the saving of a surface; return whether it is a candidate."""
        known = self.saving.get(surface)
        if known is None:
            if surface in self.refused:
                return False
            # A merge for a surface of the base would change how base text is cut.
            if surface in self._known:
                self.refused.add(surface)
                return False
            known = 0
        saving = self.saving[surface] = known + change
        if self._threshold is not None and saving >= self._threshold:
            heapq.heappush(self._heap, (-saving, len(surface), surface))
        return True

    def reduce(self, surface: bytes, change: int) -> None:
        """Lower the saving of a surface, if it is a candidate."""
        known = self.saving.get(surface)
        if known is None:
            return
        saving = self.saving[surface] = known - change
        # The heap entry of an ordinary candidate is corrected when it is popped. The worth of a
        # lowered one can rise here: with fewer places it may leave its parts in use.
        if surface in self._lowered and self._threshold is not None and saving >= self._threshold:
            self._lowered.discard(surface)
            heapq.heappush(self._heap, (-saving, len(surface), surface))

    def refuse(self, surface: bytes) -> None:
        """Remove a surface for good, whether it is a candidate or not."""
        self.saving.pop(surface, None)
        self.refused.add(surface)

    def pop_best(self, worth_of: Worth) -> tuple[bytes, int] | None:
        """Return the candidate of greatest worth with its saving, `None` if none is left.

        `worth_of` returns the worth of a surface with a saving. It is at most the saving, and is
        called for popped candidates only because it is slow.
        """
        while True:
            self._fill_heap()
            if not self._heap:
                return None
            negative, _, surface = heapq.heappop(self._heap)
            saving = self.saving.get(surface)
            if saving is None:
                continue
            # Asked only here: of two million candidates, few ever become the best.
            if saving >= -negative and not self._allowed(surface):
                self.refuse(surface)
                continue
            worth = worth_of(surface, saving) if saving >= -negative else saving
            if worth >= -negative:
                return surface, saving
            if worth < saving:
                self._lowered.add(surface)
            if worth >= self._minimum:
                heapq.heappush(self._heap, (-worth, len(surface), surface))

    def _fill_heap(self) -> None:
        """Lower the threshold until the best candidate of the heap reaches it."""
        if self._threshold is None:
            self._threshold = max(self.saving.values(), default=0) + 1
        while self._threshold > self._minimum and not (
            self._heap and -self._heap[0][0] >= self._threshold
        ):
            # A quarter: few enough steps that scanning all candidates at each costs little.
            ceiling, self._threshold = self._threshold, max(self._threshold // 4, self._minimum)
            for surface, saving in self.saving.items():
                if self._threshold <= saving < ceiling:
                    self._heap.append((-saving, len(surface), surface))
            heapq.heapify(self._heap)
