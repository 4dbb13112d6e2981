"""Count the tokens of a tokenizer on the sample of a diagnosis.

Tokens are counted per unit of the text: words, syllables or characters (`text_units`).
`Measures.floor` is a lower bound of tokens per unit: the value if each pre-token were one token. No
token crosses the boundary of a pre-token, so added tokens cannot go below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lingraft.evaluation.added_token_use import FREQUENT
from lingraft.evaluation.token_distribution import renyi_efficiency
from lingraft.evaluation.words_kept_whole import (
    TextWords,
    TokenPlaces,
    WordCounter,
    frequent_words_kept,
)
from lingraft.forecast.heldout_tokens import text_bytes
from lingraft.text_units import TextUnit, unit_of
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.unknown_tokens import RoundTrip, count_tokens, measure_round_trip

# Documents that are encoded and decoded to find the text that the tokenizer loses.
ROUND_TRIP_DOCUMENTS = 500
_BATCH_DOCUMENTS = 256


@dataclass(frozen=True)
class Measures:
    """Counts of a text, of its tokens, and of kinds of tokens.

    Attributes:
        documents, bytes, characters: the size of the text; characters are code points.
        unit: what the text is counted in: words, syllables or characters.
        units: how many of them the text has.
        spaced_words: words between white space, as most papers count them.
        tokens: tokens of the text.
        pretokens: pre-tokens of the text.
        fallback: the share of tokens that are one byte of a character without a piece of its own.
        single: the share of tokens that are one character, with or without a space.
        torn: the share of tokens that contain an incomplete character.
        unknown: the share of tokens that stand for unknown characters, which are lost.
        kept_whole: the share of words (or other units) that no token splits (STRR).
        frequent_kept: the share of the 1,000 most frequent words that are one token; `None` in
            scripts without spaces.
        efficiency: the Rényi efficiency of the tokens; `None` for fewer than two kinds of tokens.
        tokens_in_use, tokens_in_frequent_use: how many different tokens occur in the text, and how
            many 10 times or more.
        round_trip: the characters that the first documents lose when they are encoded and decoded.
    """

    documents: int
    bytes: int
    characters: int
    unit: TextUnit
    units: int
    spaced_words: int
    tokens: int
    pretokens: int
    fallback: float
    single: float
    torn: float
    unknown: float
    kept_whole: float = 0.0
    frequent_kept: float | None = None
    efficiency: float | None = None
    tokens_in_use: int = 0
    tokens_in_frequent_use: int = 0
    round_trip: RoundTrip = field(default_factory=RoundTrip)

    @property
    def tokens_per_unit(self) -> float:
        """Fertility: tokens per word, syllable or character."""
        return self.tokens / max(self.units, 1)

    @property
    def words(self) -> int | None:
        """Words by Unicode word boundaries; `None` in scripts without spaces."""
        return self.units if self.unit is TextUnit.WORD else None

    @property
    def tokens_per_word(self) -> float | None:
        """Tokens per word by Unicode word boundaries; `None` in scripts without spaces."""
        return self.per_word(self.tokens_per_unit)

    def per_word(self, value: float | None) -> float | None:
        """Return a value per unit if the unit is the word, otherwise `None`."""
        return value if self.unit is TextUnit.WORD else None

    @property
    def tokens_per_spaced_word(self) -> float:
        """Tokens per word between white space."""
        return self.tokens / max(self.spaced_words, 1)

    @property
    def tokens_per_byte(self) -> float:
        """Tokens per byte of UTF-8."""
        return self.tokens / max(self.bytes, 1)

    @property
    def bytes_per_token(self) -> float:
        """Bytes of UTF-8 per token."""
        return self.bytes / max(self.tokens, 1)

    @property
    def characters_per_token(self) -> float:
        """Code points per token."""
        return self.characters / max(self.tokens, 1)

    @property
    def floor(self) -> float:
        """The lower bound of tokens per unit: each pre-token is one token."""
        return self.pretokens / max(self.units, 1)


def measure(
    tokenizer: ModelTokenizer, documents: Sequence[str], words: TextWords | None = None
) -> Measures:
    """Encode a text and count it; `words` are those of the documents, if they were found before."""
    words = words or TextWords.of(documents, unit_of(documents))
    counter = WordCounter(TokenPlaces.of(tokenizer), words.unit)
    used = np.zeros(tokenizer.size, dtype=np.int64)
    kept = of_words = 0
    for start in range(0, len(documents), _BATCH_DOCUMENTS):
        part = slice(start, start + _BATCH_DOCUMENTS)
        encoded = [np.array(ids, dtype=np.int64) for ids in tokenizer.encode(documents[part])]
        for whole, of in map(counter.count, words.spans[part], encoded):
            kept += whole
            of_words += of
        used += np.bincount(np.concatenate(encoded), minlength=tokenizer.size)
    tokens = int(used.sum())
    # The kind depends on the token alone, so it is found once for each token that occurs.
    kinds: Counter[str] = Counter()
    for token_id in np.flatnonzero(used).tolist():
        kinds[_kind(tokenizer.family, token_id)] += int(used[token_id])
    share = {kind: count / max(tokens, 1) for kind, count in kinds.items()}
    units = words.units
    return Measures(
        documents=len(documents),
        bytes=text_bytes(documents),
        characters=sum(map(len, documents)),
        unit=words.unit,
        units=units,
        spaced_words=sum(len(text.split()) for text in documents),
        tokens=tokens,
        pretokens=tokenizer.family.units(documents).total(),
        fallback=share.get("fallback", 0.0),
        single=share.get("single", 0.0),
        torn=share.get("torn", 0.0),
        unknown=share.get("unknown", 0.0),
        kept_whole=kept / max(of_words, 1),
        frequent_kept=frequent_words_kept(tokenizer, words.frequent) if words.frequent else None,
        efficiency=renyi_efficiency(used),
        tokens_in_use=int((used > 0).sum()),
        tokens_in_frequent_use=int((used >= FREQUENT).sum()),
        round_trip=measure_round_trip(tokenizer, documents[:ROUND_TRIP_DOCUMENTS]),
    )


def _kind(family: Family, token_id: int) -> str:
    """Return the kind of a token, named as the share in `Measures`; "other" for the rest."""
    if token_id == unknown_id(family):
        return "unknown"
    if token_id in family.fallback:
        return "fallback"
    surface = family.vocabulary.surfaces[token_id]
    if surface is None:
        return "other"
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return "torn"
    return "single" if len(text.strip()) == 1 or len(text) == 1 else "other"


def unknown_id(family: Family) -> int | None:
    """Return the id of unknown characters, or `None` if the tokenizer can represent all text."""
    model: dict[str, Any] = family.data["model"]
    if family.fallback:
        return None
    if "unk_id" in model:  # Unigram stores an id, BPE and WordPiece store a token
        return model["unk_id"] if model["unk_id"] is None else int(model["unk_id"])
    return family.pieces.get(model.get("unk_token") or "")


def premium(
    tokenizer: ModelTokenizer,
    parallel: Mapping[str, Sequence[str]],
    language: str,
    reference: str = "en",
) -> float:
    """Return the tokens of the language divided by those of the reference, on the same sentences.

    Tokenization premium (Petrov et al. 2023). A lost character counts as one token.
    """
    tokens = sum(count_tokens(tokenizer, parallel[language]))
    reference_tokens = sum(count_tokens(tokenizer, parallel[reference]))
    return tokens / max(reference_tokens, 1)
