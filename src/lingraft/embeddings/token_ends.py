"""The tokens of a text, and the byte at which each of them ends.

Two tokenizations of a text are aligned by these positions. A token ends after the bytes of its
surface, a special token after those of its content. An unknown token ("<unk>") has no surface of
its own: it ends after the text that it stands for, which is a character or a run of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.splice import Vocabulary
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.unknown_tokens import unknown_text

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenEnds:
    """The ids of a text, and for each the number of bytes up to its end."""

    ids: Ints
    ends: Ints

    @property
    def size(self) -> int:
        """The number of bytes that the tokens stand for."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def starts(self) -> Ints:
        """For each id, the number of bytes before it."""
        return np.concatenate([np.zeros(1, dtype=np.int64), self.ends])[:-1]


class EndFinder:
    """Finds the ends of the tokens of texts."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self.tokenizer = tokenizer
        self.sizes = _surface_sizes(tokenizer.vocabulary)
        self.unknown = tokenizer.family.unknown

    def find(self, texts: Sequence[str]) -> list[TokenEnds]:
        """Return the tokens of each text with their ends."""
        encoded = []
        unknown_in = []
        for number, ids in enumerate(self.tokenizer.encode(texts)):
            encoded.append(np.asarray(ids, dtype=np.int64))
            if self.unknown in ids:
                unknown_in.append(number)
        sizes = [self.sizes[ids] for ids in encoded]
        # Only these texts are encoded again, because the fast call gives no more than ids.
        lost = unknown_text(self.tokenizer, [texts[number] for number in unknown_in])
        for number, parts in zip(unknown_in, lost, strict=True):
            is_unknown = encoded[number] == self.unknown
            sizes[number][is_unknown] = list(map(len, parts))
        return [TokenEnds(ids, part.cumsum()) for ids, part in zip(encoded, sizes, strict=True)]


def _surface_sizes(vocabulary: Vocabulary) -> Any:
    """Return the number of bytes that each id stands for; a special token, for its content."""
    sizes = []
    for token_id, surface in enumerate(vocabulary.surfaces):
        sizes.append(len(surface or vocabulary.special.get(token_id, "").encode()))
    return np.array(sizes, dtype=np.int64)
