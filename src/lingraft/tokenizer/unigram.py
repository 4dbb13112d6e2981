"""Unigram tokenizers (XGLM, T5, XLM-R), and scores for new pieces on the base's scale.

A Unigram segments a text into the pieces whose scores (log-probabilities) have the highest sum. A
new piece is produced where its score exceeds the best segmentation of its surface by other pieces.

The score of a new piece has to meet three conditions. It exceeds the best other segmentation, or
the piece is never produced. It is not below the base's lowest score, because that would change how
the base segments text with unknown characters. And it is no higher than needed, so that base text
keeps its segmentation. So, for pieces from short to long,

    score = max(lowest + bonus, best other segmentation + STEP * (its pieces - 1)) + spread
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lingraft.errors import TokenizerError
from lingraft.splice import Vocabulary
from lingraft.tokenizer.json_format import Data, copy_data
from lingraft.tokenizer.sentencepiece_bpe import SpaceMarked
from lingraft.tokenizer.special_text import unspellable_name

# The margin grows with the pieces that are saved: among segmentations that group the same base
# pieces, the shortest one wins instead of the first one that a greedy rule finds. Smaller than the
# differences between scores of pieces, so that base text keeps its segmentation. Values from 0.01
# to 1 all gave token counts within 0.3%.
STEP = 0.5

# Prefers frequent pieces among those at the lowest score. Small compared with that score, so that
# fewer pieces still win against more.
BONUS = 1.0
_HALF_BONUS_RANK = 1000

# Breaks ties: SentencePiece sums scores in 32 bits and `tokenizers` in 64, so exact ties would be
# resolved differently (in 34 of 500 long Turkish documents on T5). Above the resolution of 32-bit
# sums over a long text, about 0.004 after 4,000 tokens.
SPREAD = 0.2
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, are evenly distributed

UNKNOWN_PENALTY = 10.0
"""The cost of an unknown character below the lowest score, in SentencePiece and `tokenizers`."""


class Score(NamedTuple):
    """The score of a new piece, and the number of pieces in its best other segmentation."""

    score: float
    others: int


def score_pieces(
    pieces: Sequence[str], base: Mapping[str, float], *, byte_fallback: bool = False
) -> list[Score]:
    """Return a score for each new piece, in order of rank; the scores of `base` do not change.

    With `byte_fallback`, an unknown character counts as its bytes.

    >>> base = {"a": -2.0, "b": -3.0, "c": -9.0}
    >>> [(round(score, 2), others) for score, others in score_pieces(["ab", "abc"], base)]
    [(-4.5, 2), (-7.88, 2)]
    """
    lowest = min(base.values(), default=0.0)
    unknown = lowest - UNKNOWN_PENALTY
    known = dict(base)
    rank_of = {piece: rank for rank, piece in enumerate(pieces)}
    scores: dict[str, Score] = {}
    # A longer piece may be segmented into shorter new ones, which need their scores first.
    for piece in sorted(pieces, key=len):
        rank = rank_of[piece]
        bonus = BONUS / (1 + rank / _HALF_BONUS_RANK)
        spread = SPREAD * (rank * _GOLDEN % 1)
        best, others = best_segmentation(piece, known, unknown, byte_fallback=byte_fallback)
        score = max(lowest + bonus, best + STEP * (others - 1)) + spread
        known[piece] = _as_float32(score)
        scores[piece] = Score(known[piece], others)
    return [scores[piece] for piece in pieces]


def best_segmentation(
    piece: str, known: Mapping[str, float], unknown: float, *, byte_fallback: bool = False
) -> tuple[float, int]:
    """Return score and number of tokens of the best segmentation that does not use `piece`.

    An unknown character costs `unknown`. It counts as one token, or with `byte_fallback` as its
    number of bytes.

    >>> best_segmentation("abc", {"a": -1.0, "b": -1.0, "ab": -1.5, "abc": 0.0}, -20.0)
    (-21.5, 2)
    """
    size = len(piece)
    if size == 1:
        return unknown, len(piece.encode()) if byte_fallback else 1
    # The Viterbi algorithm: the best score and token count of each prefix.
    best: list[tuple[float, int]] = [(0.0, 0)] + [(-np.inf, 0)] * size
    for start in range(size):
        score, count = best[start]
        for end in range(start + 1, size + 1):
            if end - start == size:
                continue
            part = piece[start:end]
            own = known.get(part, unknown if end == start + 1 else None)
            if own is None or score + own <= best[end][0]:
                continue
            tokens = len(part.encode()) if byte_fallback and part not in known else 1
            best[end] = (score + own, count + tokens)
    return best[size]


def _as_float32(score: float) -> float:
    """Round to 32 bits, as SentencePiece stores scores: both files then hold the same number."""
    return float(np.float32(score))


class Unigram(SpaceMarked):
    """Pieces with scores; the segmentation with the highest sum is used."""

    name: ClassVar[str] = "Unigram"

    @staticmethod
    def recognises(data: Data) -> bool:
        """Whether the model is a Unigram."""
        return str(data["model"].get("type")) == "Unigram"

    @cached_property
    def _pieces(self) -> dict[str, int]:
        return {piece: i for i, (piece, _score) in enumerate(self.data["model"]["vocab"])}

    @property
    def pieces(self) -> dict[str, int]:
        """The model's vocabulary, piece to id."""
        return self._pieces

    @cached_property
    def scores(self) -> dict[str, float]:
        """The score (log-probability) of each piece."""
        return {piece: float(score) for piece, score in self.data["model"]["vocab"]}

    @property
    def looks_up_pieces(self) -> bool:
        """Whether the model maps text to any piece with that spelling: always so for a Unigram."""
        return True

    def _rename_control(self, model: Data) -> None:
        """Rename control pieces and byte names, and disable byte fallback (see `_ids`)."""
        control = set(self.control.values())
        renamed = []
        for token_id, (piece, score) in enumerate(model["vocab"]):
            is_text = piece not in control and token_id not in self.fallback
            renamed.append([piece if is_text else unspellable_name(piece, token_id), score])
        model["vocab"] = renamed
        model["byte_fallback"] = False

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text; special tokens that it spells are read as text."""
        encoded = self._ids_of_backend(texts)
        for i, encoding in self._encode_mentions(texts):
            encoded[i] = self._ids(encoding)
        return encoded

    def _ids(self, encoding: Any) -> list[int]:
        """Return the ids of an encoding by `_without_control`, with unknown text as bytes."""
        if not self.fallback or self.unknown not in encoding.ids:
            return list(encoding.ids)
        # Byte pieces were renamed there, so `tokenizers` could not fall back to them.
        id_of_byte = {byte: token_id for token_id, byte in self.fallback.items()}
        ids: list[int] = []
        for token_id, token in zip(encoding.ids, encoding.tokens, strict=True):
            if token_id == self.unknown:
                ids += map(id_of_byte.__getitem__, token.encode())
            else:
                ids.append(token_id)
        return ids

    @property
    def unknown(self) -> int | None:
        """The id that stands for a run of unknown characters."""
        unknown: int | None = self.data["model"].get("unk_id")
        return unknown

    @property
    def loses_characters(self) -> bool:
        """Whether unknown characters are lost, because there is no byte fallback."""
        return not self.data["model"].get("byte_fallback")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The bytes of each id; the unknown piece has none."""
        plain = super().vocabulary
        surfaces = list(plain.surfaces)
        if self.unknown is not None:
            surfaces[self.unknown] = None
        return Vocabulary(tuple(surfaces), plain.special, plain.fallback)

    def with_added_in_vocabulary(self) -> Data:
        """Return a copy of the data in which the model's vocabulary also holds the added tokens."""
        # The vocabulary is a list in which the index is the id: ids without a token need an entry.
        data = copy_data(self.data)
        vocab: list[list[Any]] = data["model"]["vocab"]
        outside = range(len(vocab), self.size)
        vocab += [[self.special.get(token_id, f"<unused{token_id}>"), 0.0] for token_id in outside]
        return data

    def with_tokens(self, surfaces: Sequence[bytes], ids: Sequence[int] | None = None) -> Data:
        """Add the tokens with scores that make each the best segmentation of its own surface.

        Raises `TokenizerError` where `ids` are not those after the last id: the vocabulary is a
        list and has no gaps.
        """
        expected = range(self.size, self.size + len(surfaces))
        if ids is not None and list(ids) != list(expected):
            msg = (
                f"a Unigram vocabulary grows at its end, from id {self.size} on; choose "
                "vocabulary.method: continued"
            )
            raise TokenizerError(msg)
        data = self.with_added_in_vocabulary()
        pieces = list(map(self.piece_of, surfaces))
        scores = score_pieces(pieces, self.scores, byte_fallback=not self.loses_characters)
        for piece, score in zip(pieces, scores, strict=True):
            data["model"]["vocab"].append([piece, score.score])
        return data
