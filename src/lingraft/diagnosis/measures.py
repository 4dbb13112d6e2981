"""What a tokenizer does to a text now: how many tokens, what kind, and how few any added tokens could bring.

The *floor* is the number of tokens where every stretch between two cuts of the pre-tokenizer were one token: no token
crosses a cut, so extending cannot go below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from lingraft.diagnosis.sample import Parallel
from lingraft.families import ModelTokenizer
from lingraft.families.base import Family
from lingraft.families.losing import RoundTrip, round_trip
from lingraft.intrinsic.fertility import is_unspaced, words_in

_BATCH = 256
_TRIED = 500
"""Documents that are encoded and decoded to see what the tokenizer loses."""


@dataclass(frozen=True)
class Measures:
    """Counts of a text and its tokens. Shares are of the tokens.

    A word lies between Unicode's word boundaries; `spaced_words` are what white space separates, as most papers count.
    `torn` tokens are part of a character (of several, where they straddle); `single` are one character, with or
    without a space; `fallback` stand for one byte of a character without a piece; `unknown` lose the text. `round_trip`
    says what does not come back from the ids of the first documents.
    """

    documents: int
    bytes: int
    characters: int
    words: int
    spaced_words: int
    tokens: int
    units: int
    unspaced: bool
    fallback: float
    single: float
    torn: float
    unknown: float
    round_trip: RoundTrip = field(default_factory=RoundTrip)

    @property
    def tokens_per_word(self) -> float:
        """Tokens for each Unicode word."""
        return self.tokens / max(self.words, 1)

    @property
    def tokens_per_spaced_word(self) -> float:
        """Tokens for each word between white space."""
        return self.tokens / max(self.spaced_words, 1)

    @property
    def tokens_per_byte(self) -> float:
        """Tokens for each byte of UTF-8."""
        return self.tokens / max(self.bytes, 1)

    @property
    def bytes_per_token(self) -> float:
        """Bytes of UTF-8 for each token."""
        return self.bytes / max(self.tokens, 1)

    @property
    def characters_per_token(self) -> float:
        """Code points for each token."""
        return self.characters / max(self.tokens, 1)

    @property
    def floor(self) -> float:
        """Tokens for each Unicode word where every unit were one token."""
        return self.units / max(self.words, 1)


def measure(tokenizer: ModelTokenizer, documents: Sequence[str]) -> Measures:
    """Count a text."""
    used = np.zeros(tokenizer.size, dtype=np.int64)
    for start in range(0, len(documents), _BATCH):
        ids = list(chain.from_iterable(tokenizer.ids(documents[start : start + _BATCH])))
        used += np.bincount(np.array(ids, dtype=np.int64), minlength=tokenizer.size)
    tokens = int(used.sum())
    kinds: Counter[str] = Counter()
    for token_id in np.flatnonzero(used).tolist():
        kinds.update(dict.fromkeys(_kinds(tokenizer.family, token_id), int(used[token_id])))
    share = {kind: count / max(tokens, 1) for kind, count in kinds.items()}
    return Measures(
        documents=len(documents), bytes=sum(len(text.encode()) for text in documents),
        characters=sum(map(len, documents)), words=sum(map(words_in, documents)),
        spaced_words=sum(len(text.split()) for text in documents), tokens=tokens,
        units=tokenizer.family.units(documents).total(), unspaced=is_unspaced(documents),
        fallback=share.get("fallback", 0.0), single=share.get("single", 0.0), torn=share.get("torn", 0.0),
        unknown=share.get("unknown", 0.0), round_trip=round_trip(tokenizer, documents[:_TRIED]))


def _kinds(family: Family, token_id: int) -> list[str]:
    """Return what a token counts as, beside being one."""
    if token_id == unknown_id(family):
        return ["unknown"]
    if token_id in family.fallback:
        return ["fallback"]
    surface = family.vocabulary.surfaces[token_id]
    if surface is None:
        return []
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return ["torn"]
    return ["single"] if len(text.strip()) == 1 or len(text) == 1 else []


def unknown_id(family: Family) -> int | None:
    """Return the id that stands for what the tokenizer cannot write; `None` where it writes everything."""
    model: dict[str, Any] = family.data["model"]
    if family.fallback:
        return None
    if "unk_id" in model:
        return model["unk_id"] if model["unk_id"] is None else int(model["unk_id"])
    return family.pieces.get(model.get("unk_token") or "")


def premium(tokenizer: ModelTokenizer, parallel: Parallel, language: str, reference: str = "en") -> float:
    """Return the tokens of a language over those of the reference, for the same sentences (Petrov et al. 2023)."""
    tokens = [sum(map(len, tokenizer.ids(parallel.columns[tag]))) for tag in (language, reference)]
    return tokens[0] / max(tokens[1], 1)
