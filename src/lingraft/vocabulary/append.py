"""The method of Tejaswi et al. 2024: train a BPE on the target text and append its tokens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lingraft.progress import progress
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.special_text import NOT_IN_TEXT
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.vocabulary.lost_text import without_lost_text
from lingraft.vocabulary.word_counts import CutAlone, cut_by_base, cut_with_new


@dataclass(frozen=True)
class _TargetToken:
    """A token of the target BPE; `parts` are the two that its merge joins, `None` without one."""

    surface: bytes
    parts: tuple[bytes, bytes] | None


@SELECTIONS.register
class Append(Selection):
    """Train a separate BPE on the target text, and append its tokens and merges to the base's.

    The base may cut the surface of a target token so that the merges of the target BPE never
    apply. If the extended merge table yields exactly two parts, a merge of these two parts is
    written instead. Other unreachable tokens are dropped. Both cases are counted.
    """

    name: ClassVar[str] = "append"
    reference: ClassVar[str] = "Tejaswi, Gupta, Choi 2024, arXiv 2406.14670, section 3"

    limit_alphabet: int = Field(
        1000, ge=256, description="maximum number of characters in the initial alphabet"
    )

    def select(self, request: SelectionRequest) -> Selected:
        """Return the first `size` tokens of the target BPE that are new and reachable."""
        if isinstance(request.family, ByteLevel):
            request = without_lost_text(request)
        # Many target tokens are in the base already, so the target BPE must be larger than
        # `size`. It grows until enough tokens are new or the text yields no more merges.
        vocabulary_size = 2 * request.size + 1000
        while True:
            learned = self._train(request.family, request.counts, vocabulary_size)
            selected = _keep_reachable(request.family, learned, request.size)
            if len(selected.surfaces) == request.size or len(learned) < vocabulary_size:
                return selected
            vocabulary_size *= 2

    def _train(self, family: Family, counts: Counter[str], size: int) -> list[_TargetToken]:
        """Train a BPE of `size` tokens on the units; return its tokens in rank order."""
        tokenizer = Tokenizer(models.BPE())
        # The trainer must not merge across units.
        tokenizer.pre_tokenizer = pre_tokenizers.Split(NOT_IN_TEXT, "removed")
        is_byte_level = isinstance(family, ByteLevel)
        alphabet = pre_tokenizers.ByteLevel.alphabet() if is_byte_level else []
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            initial_alphabet=alphabet,
            limit_alphabet=max(self.limit_alphabet, 256),
            max_token_length=96,
        )
        with progress("training the target BPE"):
            tokenizer.train_from_iterator(_repeat_units(counts), trainer)
        model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
        return _tokens_in_order(family, model)


def _tokens_in_order(family: Family, model: Mapping[str, Any]) -> list[_TargetToken]:
    """Return the tokens of a BPE model by id, each with the parts of its merge."""
    parts_of: dict[str, tuple[bytes, bytes]] = {}
    for left, right in model["merges"]:
        parts_of[left + right] = (family.surface_of(left), family.surface_of(right))
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return [_TargetToken(family.surface_of(piece), parts_of.get(piece)) for piece in pieces]


def _repeat_units(counts: Counter[str]) -> Iterator[str]:
    """Yield strings in which each unit occurs as often as it was counted.

    The trainer of `tokenizers` accepts text, not counts.
    """
    for unit, count in counts.items():
        # 10,000 copies in one string bound its memory and keep the number of calls low.
        for start in range(0, count, 10_000):
            yield NOT_IN_TEXT.join([unit] * min(count - start, 10_000))


def _keep_reachable(family: Family, learned: list[_TargetToken], size: int) -> Selected:
    """Return the first `size` tokens that are new and reachable, with counts of the others."""
    notes: Counter[str] = Counter()
    cut_alone = cut_by_base(family)
    rank: dict[bytes, int] = {}
    for token in learned:
        if len(rank) == size:
            break
        if token.surface in family.known_surfaces:
            notes["in the base already"] += 1
        elif not family.allows(token.surface):
            notes[
                "dropped: not allowed in this family (digits, punctuation alone, torn characters)"
            ] += 1
        # The scores of an extended Unigram make every piece reachable.
        elif isinstance(family, Unigram) or _is_reachable(family, token, cut_alone, rank, notes):
            rank[token.surface] = len(rank)
    return Selected(tuple(rank), notes=dict(notes))


def _is_reachable(
    family: Family,
    token: _TargetToken,
    cut_alone: CutAlone,
    rank: Mapping[bytes, int],
    notes: Counter[str],
) -> bool:
    """Return whether one more merge produces the token from its own bytes; count the reason."""
    parts = cut_with_new(token.surface, cut_alone, rank)
    if not parts:
        notes["dropped: holds a byte that the base cannot spell"] += 1
        return False
    # A character that falls back to bytes counts as one part, but only a token can be merged: a
    # line separator, for example, is never one.
    tokens = [part in rank or part in family.known_surfaces for part in parts]
    if len(parts) > 2 or (len(parts) == 2 and not all(tokens)):
        notes["dropped: no merge reaches it when it stands alone"] += 1
        return False
    if len(parts) == 2 and tuple(parts) != token.parts:
        notes["repaired: reached by the parts that the merge table yields"] += 1
    return True
