"""Pruning: remove tokens of the base that are little used, so that new tokens reuse their ids.

Only *leaves* are removed, tokens from which no other token is built. A word without a removed token
is cut as before. In the others the two parts that its merge joined remain, and may now merge with
their neighbours. Removing a leaf may make its parts leaves. The least used leaf is removed first.

Of equally used leaves the one that was merged last is removed first: BPE learns frequent tokens
first, so a late one is rarer in text that was not counted. With the usage in 0.3 MB of English and
0.3 MB of Hindi, removing 1,000 tokens of GPT-2 changes 26 of 1,638 other English documents, and 724
if the earliest merge is removed first.

Runs of white space stay. They are the last merges of Llama-2 and Mistral and unused in most prose,
but indent code: among the first 300 tokens that Mistral would lose are all of its runs of spaces,
and 111 of 470 built-in and held-out texts would get longer instead of 3.
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


def choose_leaves(
    family: BPE, usage: Counter[int], count: int, keep: Collection[int] = ()
) -> list[int]:
    """Return up to `count` ids, least used first; each is a leaf once those before it are removed.

    Of equally used leaves, the one whose merge is last in the table comes first.
    `usage` counts the tokens of base and target text. The usage of a removed token is added to its
    two parts, which will spell the text then. The ids in `keep`, special tokens, single characters,
    bytes and white space are never removed.
    """
    pieces, surfaces = family.pieces, family.vocabulary.surfaces
    merges_of: dict[str, list[tuple[str, str]]] = {}
    used_by: Counter[str] = Counter()  # the number of merges that a piece is a part of
    order_of: dict[str, int] = {}  # decreases with the rank of the first merge of a piece
    for rank, (left, right) in enumerate(family.merges):
        merges_of.setdefault(left + right, []).append((left, right))
        order_of.setdefault(left + right, -rank)
        used_by.update({left, right})
    usage = Counter(usage)
    removed: dict[str, int] = {}

    def is_leaf(piece: str) -> bool:
        if piece not in merges_of or used_by[piece] or piece not in pieces or piece in removed:
            return False
        token_id = pieces[piece]
        if token_id in family.special or token_id in family.fallback or token_id in keep:
            return False
        return not (surfaces[token_id] or b"").decode(errors="replace").isspace()

    leaves = filter(is_leaf, merges_of)
    heap = [(usage[pieces[piece]], order_of[piece], piece) for piece in leaves]
    heapq.heapify(heap)
    while heap and len(removed) < count:
        uses, _, piece = heapq.heappop(heap)
        token_id = pieces[piece]
        # The usage of a leaf grows when a token that contains it is removed: skip old entries.
        if piece in removed or uses != usage[token_id]:
            continue
        removed[piece] = token_id
        parts_of_all: set[str] = set()
        for parts in merges_of[piece]:
            parts_of_all.update(parts)
            for part in set(parts):
                used_by[part] -= 1
        for part in merges_of[piece][0]:  # the first merge is the one by which text is cut now
            usage[pieces[part]] += uses
        for part in parts_of_all:
            if is_leaf(part):
                heapq.heappush(heap, (usage[pieces[part]], order_of[part], part))
    return list(removed.values())


def count_usage(family: Family, units: Counter[str]) -> Counter[int]:
    """Count the tokens of a text, given its units."""
    usage: Counter[int] = Counter()
    for ids, count in zip(family.segment(list(units)), units.values(), strict=True):
        for token_id in ids:
            usage[token_id] += count
    return usage


class _Pruning(Selection):
    """The common part of both methods: choosing the leaves to remove."""

    needs_base: ClassVar[bool] = True
    removes: ClassVar[bool] = True

    def _choose(self, request: SelectionRequest) -> list[int]:
        family = request.family
        if not isinstance(family, BPE):
            msg = (
                f"vocabulary.method: tokens cannot be removed from a {family.name} tokenizer; "
                "choose vocabulary.method: continued"
            )
            raise TokenizerError(msg)
        base_usage = count_usage(family, request.base_counts)
        # Protected text must be cut as before, so every token that occurs in it stays.
        keep = frozenset(base_usage) if request.protected else frozenset()
        usage = base_usage + count_usage(family, request.counts)
        return choose_leaves(family, usage, request.size, keep)


@SELECTIONS.register
class Prune(_Pruning):
    """Remove `size` tokens: the least used in base and target text from which nothing is built.

    Special tokens, bytes, single characters and runs of white space stay.
    """

    name: ClassVar[str] = "prune"
    adds: ClassVar[bool] = False
    reference: ClassVar[str] = (
        "leaf-based vocabulary pruning: Purason et al. 2025, arXiv 2512.03989"
    )

    def select(self, request: SelectionRequest) -> Selected:
        """Return no new tokens, and the ids to remove."""
        return Selected((), dropped=tuple(self._choose(request)))


@SELECTIONS.register
class Replace(_Pruning):
    """Extend at constant size: tokens of continued BPE reuse the ids of `size` removed tokens."""

    name: ClassVar[str] = "replace"
    reference: ClassVar[str] = Prune.reference
    balances: ClassVar[bool] = True

    def select(self, request: SelectionRequest) -> Selected:
        """Return new tokens, and the ids that they reuse."""
        dropped = self._choose(request)
        surfaces = request.family.vocabulary.surfaces
        learning = SelectionRequest(
            family_of(request.family.without_tokens(dropped), request.where),
            request.counts,
            len(dropped),
            request.protected,
            # A removed token must not be learned again.
            excluded=frozenset(surfaces[token_id] or b"" for token_id in dropped),
            where=request.where,
            balanced=request.balanced,
        )
        return replace(ContinuedBPE().select(learning), dropped=tuple(dropped))
