"""Scores for new Unigram pieces, on the base's scale.

Three things are wanted of the score of a new piece. It must beat every other segmentation of its surface, or the piece
is never produced. It must not lie below the base's lowest score: a character without a piece costs that score less
ten, so a lower one would change how the base cuts text with such characters. And it should be no higher than needed,
so that base text keeps its segmentation. Hence, for pieces from short to long,

    score = max(lowest + bonus, best other segmentation + STEP x (its pieces - 1)) + spread

The margin grows with the pieces that are saved, so that among segmentations that group the same base pieces the
shortest one wins (each has the base's score plus STEP x pieces saved), not the one that a greedy rule finds first. The
bonus, at most BONUS and falling with the rank, favours frequent pieces among those at the lowest score; it is small
against that score, so fewer pieces still win against more. The spread, under SPREAD and another one for each piece,
breaks ties: SentencePiece sums in 32 bits and `tokenizers` in 64, so exact ties would fall differently there (in 34 of
500 long Turkish documents on T5).

Unigram: XGLM, T5, XLM-R. A text is cut into the pieces whose scores (log-probabilities) sum highest.

A new piece is used where its score beats the best segmentation of its surface by other pieces. It is scored just high
enough for that, never lower than the base's rarest piece (`scoring.py`), so that it is always reachable, and base text
moves only where it holds a new surface. Without byte fallback a character that has no piece is lost: "<unk>" stands
for a whole run of such characters (`losing.py`).
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

STEP = 0.5
"""Below the scores of pieces, so that base text stays; of 0.01 to 1, all gave token counts within 0.3%."""
BONUS = 1.0
SPREAD = 0.2
"""Above the resolution of 32-bit sums over a long text, about 0.004 after 4,000 tokens."""
UNKNOWN_PENALTY = 10.0
"""What a character without a piece costs beyond the lowest score, in SentencePiece and `tokenizers`."""
_HALF = 1000
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, lie evenly


class Score(NamedTuple):
    """The score of a new piece, and how many pieces spell its surface best without it."""

    score: float
    others: int


def score_pieces(
    pieces: Sequence[str], base: Mapping[str, float], *, byte_fallback: bool = False
) -> list[Score]:
    """Return a score for each new piece, the first in rank first; the scores of `base` stay as they are.

    With `byte_fallback`, a character without a piece counts as its bytes.

    >>> [(round(score, 2), others) for score, others in score_pieces(["ab", "abc"], {"a": -2.0, "b": -3.0, "c": -9.0})]
    [(-4.5, 2), (-7.88, 2)]
    """
    lowest = min(base.values(), default=0.0)
    known = dict(base)
    found: dict[str, Score] = {}
    bonus = {piece: BONUS / (1 + rank / _HALF) for rank, piece in enumerate(pieces)}
    spread = {piece: SPREAD * (rank * _GOLDEN % 1) for rank, piece in enumerate(pieces)}
    for piece in sorted(pieces, key=len):
        score, others = best_segmentation(
            piece, known, lowest - UNKNOWN_PENALTY, byte_fallback=byte_fallback
        )
        known[piece] = _single(
            max(lowest + bonus[piece], score + STEP * (others - 1)) + spread[piece]
        )
        found[piece] = Score(known[piece], others)
    return [found[piece] for piece in pieces]


def best_segmentation(
    piece: str, known: Mapping[str, float], unknown: float, *, byte_fallback: bool = False
) -> tuple[float, int]:
    """Return score and number of tokens of the best way to spell a piece by others.

    A character that no piece spells costs `unknown`; it is one token, or as many as it has bytes.

    >>> best_segmentation("abc", {"a": -1.0, "b": -1.0, "ab": -1.5, "abc": 0.0}, -20.0)
    (-21.5, 2)
    """
    size = len(piece)
    if size == 1:
        return unknown, len(piece.encode()) if byte_fallback else 1
    best: list[tuple[float, int]] = [(0.0, 0)] + [(-np.inf, 0)] * size
    for start in range(size):
        score, count = best[start]
        for end in range(start + 1, size + 1):
            if end - start == size:
                continue
            own = known.get(piece[start:end], unknown if end == start + 1 else None)
            if own is None or score + own <= best[end][0]:
                continue
            lacks_piece = byte_fallback and piece[start:end] not in known
            best[end] = (
                score + own,
                count + (len(piece[start:end].encode()) if lacks_piece else 1),
            )
    return best[size]


def _single(score: float) -> float:
    """Round to 32 bits, as SentencePiece stores scores: both files then hold the same number."""
    return float(np.float32(score))


class Unigram(SpaceMarked):
    """Pieces with scores; the best-scoring segmentation wins."""

    name: ClassVar[str] = "Unigram"

    @staticmethod
    def recognises(data: Data) -> bool:
        """Say whether the model is a Unigram."""
        return str(data["model"].get("type")) == "Unigram"

    @cached_property
    def _pieces(self) -> dict[str, int]:
        return {piece: i for i, (piece, _score) in enumerate(self.data["model"]["vocab"])}

    @property
    def pieces(self) -> dict[str, int]:
        """The vocabulary of the model: piece to id."""
        return self._pieces

    @cached_property
    def scores(self) -> dict[str, float]:
        """The score of each piece, which is a logarithm of its probability."""
        return {piece: float(score) for piece, score in self.data["model"]["vocab"]}

    @property
    def looks_up_pieces(self) -> bool:
        """A Unigram of `tokenizers` takes any piece that a text spells, control pieces and byte names among them."""
        return True

    def _rename_control(self, model: Data) -> None:
        """Rename control pieces and byte names; what falls back to bytes becomes unknown there (`encode`)."""
        names = set(self.control.values())
        model["vocab"] = [
            [unspellable_name(piece, i) if piece in names or i in self.fallback else piece, score]
            for i, (piece, score) in enumerate(model["vocab"])
        ]
        model["byte_fallback"] = False

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text as text; where bytes are fallen back on, a run without pieces is its bytes."""
        spelling = [i for i, text in enumerate(texts) if self.special_text.mentions(text)]
        found = [
            encoding.ids
            for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ]
        if spelling:
            again = self._without_control.encode_batch(
                [texts[i] for i in spelling], add_special_tokens=False
            )
            for i, encoding in zip(spelling, again, strict=True):
                found[i] = self._ids(encoding)
        return found

    def _ids(self, encoding: Any) -> list[int]:
        """Spell what is unknown there in bytes, where bytes are fallen back on."""
        if not self.fallback or self.unknown not in encoding.ids:
            return list(encoding.ids)
        id_of = {byte: token_id for token_id, byte in self.fallback.items()}
        ids: list[int] = []
        for token_id, token in zip(encoding.ids, encoding.tokens, strict=True):
            ids += (
                [id_of[byte] for byte in token.encode()] if token_id == self.unknown else [token_id]
            )
        return ids

    @property
    def unknown(self) -> int | None:
        """The id that stands for a run of characters without a piece."""
        unknown: int | None = self.data["model"].get("unk_id")
        return unknown

    @property
    def loses_characters(self) -> bool:
        """Whether a character without a piece is lost: there are no bytes to fall back on."""
        return not self.data["model"].get("byte_fallback")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each id stands for; the unknown piece stands for nothing."""
        plain = super().vocabulary
        surfaces = list(plain.surfaces)
        if self.unknown is not None:
            surfaces[self.unknown] = None
        return Vocabulary(tuple(surfaces), plain.special)

    def with_added_in_vocabulary(self) -> Data:
        """Return a copy of the data whose added tokens also stand in the model's vocabulary, under their ids.

        The vocabulary is a list and an id its index: ids that no token has are filled with placeholders.
        """
        data = copy_data(self.data)
        vocab: list[list[Any]] = data["model"]["vocab"]
        outside = range(len(vocab), self.size)
        vocab += [[self.special.get(token_id, f"<unused{token_id}>"), 0.0] for token_id in outside]
        return data

    def with_tokens(self, surfaces: Sequence[bytes], ids: Sequence[int] | None = None) -> Data:
        """Add the tokens with scores that make each the best segmentation of its own surface.

        Raises `TokenizerError` where `ids` are not those after the last one: a Unigram's ids have no holes to fill.
        """
        if ids is not None and list(ids) != list(range(self.size, self.size + len(surfaces))):
            msg = f"a Unigram vocabulary grows at its end, from id {self.size} on; choose vocabulary.method: continued"
            raise TokenizerError(msg)
        data = self.with_added_in_vocabulary()
        pieces = [self.piece_of(surface) for surface in surfaces]
        vocab: list[list[Any]] = data["model"]["vocab"]
        scores = score_pieces(pieces, self.scores, byte_fallback=not self.loses_characters)
        vocab += [[piece, score.score] for piece, score in zip(pieces, scores, strict=True)]
        return data
