"""Unigram: XGLM, T5, XLM-R. A text is cut into the pieces whose scores (log-probabilities) sum highest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from lingraft.families.base import Data, Family
from lingraft.families.sentencepiece import SentencePieceBPE


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

    lead = SentencePieceBPE.lead
    cut = SentencePieceBPE.cut
    _front = SentencePieceBPE._front

    def extended(self, surfaces: Sequence[bytes]) -> Data:
        raise NotImplementedError
