"""Unigram: XGLM, T5, XLM-R. A text is cut into the pieces whose scores (log-probabilities) sum highest.

A new piece is used where its score beats the best segmentation of its surface by other pieces. It is scored just high
enough for that, never lower than the base's rarest piece (`scoring.py`), so that it is always reachable, and base text
moves only where it holds a new surface. Without byte fallback a character that has no piece is lost ("<unk>", one for
a whole run of such characters); `lost` counts these.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from tokenizers import Tokenizer

from lingraft.errors import TokenizerError
from lingraft.families.base import Data, Family
from lingraft.families.scoring import scored
from lingraft.families.sentencepiece import SPACE, SentencePieceBPE
from lingraft.vocabulary import Vocabulary


class Unigram(Family):
    """Pieces with scores; the best-scoring segmentation wins."""

    name: ClassVar[str] = "Unigram"

    @staticmethod
    def recognises(data: Data) -> bool:
        """Say whether the model is a Unigram."""
        return data["model"].get("type") == "Unigram"

    @cached_property
    def _pieces(self) -> dict[str, int]:
        return {piece: i for i, (piece, _score) in enumerate(self.data["model"]["vocab"])}

    @property
    def pieces(self) -> dict[str, int]:
        """The vocabulary of the model: piece to id."""
        return self._pieces

    surface_of = SentencePieceBPE.surface_of
    piece_of = SentencePieceBPE.piece_of
    fallback = SentencePieceBPE.fallback
    lead = SentencePieceBPE.lead
    cut = SentencePieceBPE.cut
    _front = SentencePieceBPE._front

    def allows(self, surface: bytes) -> bool:
        """Leave out, beside digits and ASCII punctuation alone, what the vocabulary cannot write."""
        text = surface.decode("utf-8", errors="replace")
        return super().allows(surface) and SPACE not in text and "\ufffd" not in text and not text.isspace()

    @property
    def unknown(self) -> int | None:
        """The id that stands for a run of characters without a piece."""
        unknown: int | None = self.data["model"].get("unk_id")
        return unknown

    @property
    def loses(self) -> bool:
        """Whether a character without a piece is lost: there are no bytes to fall back on."""
        return not self.data["model"].get("byte_fallback")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each id stands for; the unknown piece stands for nothing."""
        plain = super().vocabulary
        surfaces = tuple(None if token_id == self.unknown else surface for token_id, surface in enumerate(plain.surfaces))
        return Vocabulary(surfaces, plain.special)

    def with_added_in_vocabulary(self) -> Data:
        """Return a copy of the data whose added tokens also stand in the model's vocabulary, under their ids.

        The vocabulary is a list and an id its index: ids that no token has are filled with placeholders.
        """
        data = copy.deepcopy(self.data)
        vocab: list[list[Any]] = data["model"]["vocab"]
        for token_id in range(len(vocab), self.size):
            vocab.append([self.special.get(token_id, f"<unused{token_id}>"), 0.0])
        return data

    def extended(self, surfaces: Sequence[bytes], ids: Sequence[int] | None = None) -> Data:
        """Add the tokens with scores that make each the best segmentation of its own surface.

        Raises `TokenizerError` where `ids` are not those after the last one: a Unigram's ids have no holes to fill.
        """
        if ids is not None and list(ids) != list(range(self.size, self.size + len(surfaces))):
            msg = f"a Unigram vocabulary grows at its end, from id {self.size} on; choose vocabulary.method: continued"
            raise TokenizerError(msg)
        data = self.with_added_in_vocabulary()
        pieces = [self.piece_of(surface) for surface in surfaces]
        vocab: list[list[Any]] = data["model"]["vocab"]
        scores = scored(pieces, {piece: score for piece, score in vocab})
        vocab += [[piece, score] for piece, (score, _others) in zip(pieces, scores, strict=True)]
        return data


def lost_characters(tokenizer: Tokenizer, family: Family, texts: Sequence[str]) -> list[int]:
    """Return how many characters of each text are lost: those that a run of unknown ones stands for."""
    if not isinstance(family, Unigram) or not family.loses:
        return [0] * len(texts)
    return [sum(end - start for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
                if token_id == family.unknown)
            for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
