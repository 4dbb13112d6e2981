"""Pruning: which tokens of the base can go, so that others take their ids.

Only a *leaf* is taken, a token from which no other one is built: text without it is cut as before, and text with it
falls back on the two parts that made it. Taking a leaf may make its parts leaves; the least used leaf goes first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

from lingraft.errors import TokenizerError
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import BPE
from lingraft.tokenizer.load_tokenizer import family_of
from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.vocabulary.continued_bpe import ContinuedBPE


def leaves_to_prune(
    family: BPE, usage: Counter[int], count: int, keep: Collection[int] = ()
) -> list[int]:
    """Return up to `count` ids, least used first, each a leaf once those before it are gone.

    `usage` counts tokens in base and target text. The ids in `keep`, special tokens, single characters and bytes
    always stay. Usage moves on to the two parts of a token that is taken, by which the text will be spelled then.
    """
    pieces = family.pieces
    makers: dict[str, list[tuple[str, str]]] = {}
    used_by: Counter[str] = Counter()
    for left, right in family.merges:
        makers.setdefault(left + right, []).append((left, right))
        used_by.update({left, right})
    stays = {
        piece
        for piece, token_id in pieces.items()
        if token_id in family.special or token_id in family.fallback or token_id in keep
    }
    usage = Counter(usage)

    def leaf(piece: str) -> bool:
        return piece in makers and not used_by[piece] and piece not in stays and piece in pieces

    heap = [(usage[pieces[piece]], pieces[piece], piece) for piece in makers if leaf(piece)]
    heapq.heapify(heap)
    taken: list[int] = []
    gone: set[str] = set()
    while heap and len(taken) < count:
        uses, token_id, piece = heapq.heappop(heap)
        if piece in gone or uses != usage[token_id]:
            continue
        gone.add(piece)
        taken.append(token_id)
        for parts in makers[piece]:
            for part in set(parts):
                used_by[part] -= 1
        for part in makers[piece][0]:  # the first merge is the one by which text is spelled now
            usage[pieces[part]] += uses
        freed = {
            part for parts in makers[piece] for part in parts if leaf(part) and part not in gone
        }
        for part in freed:
            heapq.heappush(heap, (usage[pieces[part]], pieces[part], part))
    return taken


def usage_of(family: Family, units: Counter[str]) -> Counter[int]:
    """Count the tokens of a text, given its units."""
    usage: Counter[int] = Counter()
    for ids, count in zip(family.segment(list(units)), units.values(), strict=True):
        for token_id in ids:
            usage[token_id] += count
    return usage


class _Pruning(Selection):
    """Takes leaves out, least used first."""

    needs_base: ClassVar[bool] = True

    def _prunable(self, request: SelectionRequest) -> list[int]:
        family = request.family
        if not isinstance(family, BPE):
            msg = f"tokens cannot be taken out of a {family.name} tokenizer; choose vocabulary.method: continued"
            raise TokenizerError(msg)
        in_base = usage_of(family, request.base_counts)
        keep = frozenset(in_base) if request.protected else frozenset()
        return leaves_to_prune(
            family, in_base + usage_of(family, request.counts), request.size, keep
        )


@SELECTIONS.register
class Prune(_Pruning):
    """Take `size` tokens out: the least used in base and target text, from which nothing is built."""

    name: ClassVar[str] = "prune"
    reference: ClassVar[str] = (
        "leaf-based vocabulary pruning: Purason et al. 2025, arXiv 2512.03989"
    )

    def select(self, request: SelectionRequest) -> Selected:
        """Return no new tokens, and the ids that go."""
        return Selected((), dropped=tuple(self._prunable(request)))


@SELECTIONS.register
class Replace(_Pruning):
    """Extend at constant size: `size` pruned tokens give their ids to tokens of continued BPE."""

    name: ClassVar[str] = "replace"
    reference: ClassVar[str] = Prune.reference

    def select(self, request: SelectionRequest) -> Selected:
        """Return new tokens, and the ids that go and are taken over."""
        dropped = self._prunable(request)
        pruned = family_of(request.family.without_tokens(dropped), request.where)
        surfaces = request.family.vocabulary.surfaces
        gone = frozenset(
            surfaces[token_id] or b"" for token_id in dropped
        )  # what goes does not come back
        learned = ContinuedBPE().select(
            SelectionRequest(
                pruned,
                request.counts,
                len(dropped),
                request.protected,
                excluded=gone,
                where=request.where,
            )
        )
        return replace(learned, dropped=tuple(dropped))
