"""The paper's append: train a BPE on the target text, and add what the base does not have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from lingraft.progress import progress
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.sentencepiece_bpe import UNIT_PATTERN, SpaceMarked
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary.base import SELECTIONS, Selected, Selection, SelectionRequest
from lingraft.vocabulary.word_counts import cut_by_base, cut_with_new


@SELECTIONS.register
class Append(Selection):
    """Train a BPE of its own on the target text; V_new = V followed by (V' - V), its merges after the base's.

    A target token may be out of reach: the base cuts its surface so that the merges of V' never meet. Where the
    current merge table yields exactly two parts, the merge of these two is the repair; other tokens are dropped. Both
    are counted.
    """

    name: ClassVar[str] = "append"
    reference: ClassVar[str] = "Tejaswi, Gupta, Choi 2024, arXiv 2406.14670, section 3"

    limit_alphabet: int = Field(
        1000, ge=256, description="number of characters that V' starts from"
    )

    def select(self, request: SelectionRequest) -> Selected:
        """Return the first `size` tokens of V' that the base does not have and that can be reached."""
        family = request.family
        notes: Counter[str] = Counter()
        wanted = request.size
        vocabulary_size = 2 * wanted + 1000
        while True:
            learned = self._train(family, request.counts, vocabulary_size)
            surfaces = _reachable(family, learned, wanted, notes)
            if len(surfaces) == wanted or len(learned) < vocabulary_size:
                return Selected(tuple(surfaces), notes=dict(notes))
            vocabulary_size *= 2
            notes.clear()

    def _train(
        self, family: Family, counts: Counter[str], size: int
    ) -> list[tuple[bytes, tuple[bytes, bytes] | None]]:
        """Return the tokens of V' in order, each with the merge that makes it."""
        marked = isinstance(family, SpaceMarked)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = (
            pre_tokenizers.Split(Regex(UNIT_PATTERN), "isolated")
            if marked
            else pre_tokenizers.WhitespaceSplit()
        )
        alphabet = [] if marked else pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            initial_alphabet=alphabet,
            limit_alphabet=max(self.limit_alphabet, 256),
            max_token_length=96,
        )
        with progress("training the target BPE"):
            tokenizer.train_from_iterator(_repeated(counts, "" if marked else " "), trainer)
        data = _model_of(tokenizer)
        made_by = {pair[0] + pair[1]: (pair[0], pair[1]) for pair in data["merges"]}
        ordered = sorted(data["vocab"], key=data["vocab"].__getitem__)
        return [
            (
                family.surface_of(piece),
                (family.surface_of(made_by[piece][0]), family.surface_of(made_by[piece][1]))
                if piece in made_by
                else None,
            )
            for piece in ordered
        ]


def _model_of(tokenizer: Tokenizer) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def _repeated(counts: Counter[str], separator: str) -> Iterator[str]:
    """Spell the counted units out again, many a string: the trainer counts text, not units."""
    for unit, count in counts.items():
        for start in range(0, count, 10_000):
            yield separator.join([unit] * min(count - start, 10_000))


def _reachable(
    family: Family,
    learned: list[tuple[bytes, tuple[bytes, bytes] | None]],
    size: int,
    notes: Counter[str],
) -> list[bytes]:
    """Keep what the base has not and the merge table reaches, in order; count repairs and what is dropped."""
    cut_alone = cut_by_base(family)
    base = family.known_surfaces
    rank: dict[bytes, int] = {}
    for surface, made_by in learned:
        if len(rank) == size:
            break
        if surface in base:
            notes["in the base already"] += 1
            continue
        if not family.allows(surface):
            notes[
                "dropped: not allowed in this family (digits, punctuation alone, torn characters)"
            ] += 1
            continue
        if isinstance(family, Unigram):  # its scores make every piece reachable
            rank[surface] = len(rank)
            continue
        parts = cut_with_new(surface, cut_alone, rank)
        if not parts:
            notes["dropped: holds a byte that the base cannot spell"] += 1
            continue
        if len(parts) > 2:
            notes["dropped: no merge reaches it when it stands alone"] += 1
            continue
        if len(parts) == 2 and tuple(parts) != made_by:
            notes["repaired: reached by the parts that the merge table yields"] += 1
        rank[surface] = len(rank)
    return list(rank)
