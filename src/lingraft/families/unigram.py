"""Unigram: XGLM, T5, XLM-R. A text is cut into the pieces whose scores (log-probabilities) sum highest.

A new piece is used where its score beats the best segmentation of its surface by other pieces. It is scored just high
enough for that, never lower than the base's rarest piece (`scoring.py`), so that it is always reachable, and base text
moves only where it holds a new surface. Without byte fallback a character that has no piece is lost: "<unk>" stands
for a whole run of such characters (`losing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from lingraft.errors import TokenizerError
from lingraft.families.content import Data, copied
from lingraft.families.scoring import scored
from lingraft.families.sentencepiece import SpaceMarked
from lingraft.families.special_text import unreachable
from lingraft.vocabulary import Vocabulary


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
        model["vocab"] = [[unreachable(piece, i) if piece in names or i in self.fallback else piece, score]
                          for i, (piece, score) in enumerate(model["vocab"])]
        model["byte_fallback"] = False

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text as text; where bytes are fallen back on, a run without pieces is its bytes."""
        spelling = [i for i, text in enumerate(texts) if self.special_text.mentions(text)]
        found = [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        if spelling:
            again = self._without_control.encode_batch([texts[i] for i in spelling], add_special_tokens=False)
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
            ids += [id_of[byte] for byte in token.encode()] if token_id == self.unknown else [token_id]
        return ids

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
        surfaces = list(plain.surfaces)
        if self.unknown is not None:
            surfaces[self.unknown] = None
        return Vocabulary(tuple(surfaces), plain.special)

    def with_added_in_vocabulary(self) -> Data:
        """Return a copy of the data whose added tokens also stand in the model's vocabulary, under their ids.

        The vocabulary is a list and an id its index: ids that no token has are filled with placeholders.
        """
        data = copied(self.data)
        vocab: list[list[Any]] = data["model"]["vocab"]
        outside = range(len(vocab), self.size)
        vocab += [[self.special.get(token_id, f"<unused{token_id}>"), 0.0] for token_id in outside]
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
        scores = scored(pieces, self.scores, byte_fallback=not self.loses)
        vocab += [[piece, score.score] for piece, score in zip(pieces, scores, strict=True)]
        return data
