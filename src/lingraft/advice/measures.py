"""The text that a diagnosis reads, and what a tokenizer does to it.

Files often hold one source after another, so the sample is drawn from everything that is read (at
most `READ_BYTES`), without repeated documents. The size of all the text is kept too, because tokens
would be learned from all of it.

The *floor* is the number of tokens if every stretch between two cuts of the pre-tokenizer were one
token. No token crosses a cut, so adding tokens cannot go below it.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.corpus import Source, first_documents, parse_language
from lingraft.corpus.readers import read_source
from lingraft.errors import CorpusError, RecipeError
from lingraft.evaluation.words import count_words, is_unspaced
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.unknown_tokens import RoundTrip, measure_round_trip

SAMPLE_BYTES = 2_000_000
READ_BYTES = 64_000_000
ROUND_TRIP_DOCUMENTS = 500
"""Documents that are encoded and decoded to find what the tokenizer loses."""

_BATCH = 256
_TAGGED = re.compile(r"(domain:[A-Za-z0-9._-]+|[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)=(.+)")


@dataclass(frozen=True)
class TextSample:
    """Documents of one language in random order, drawn from `given_bytes` of text.

    `cut_short` says that there was more text than is read.
    """

    language: str
    documents: tuple[str, ...]
    bytes: int
    given_bytes: int
    cut_short: bool = False


def language_and_place(argument: str) -> tuple[str, str]:
    """Read [LANG=]FILE; without LANG= the file's name begins with the language.

    Raises `CorpusError` where neither says the language.

    >>> language_and_place("pt-br=news.txt"), language_and_place("text/hi.train.jsonl.gz")
    (('pt-BR', 'news.txt'), ('hi', 'text/hi.train.jsonl.gz'))
    """
    tagged = _TAGGED.fullmatch(argument)
    if tagged:
        return parse_language(tagged[1]), tagged[2]
    try:
        return parse_language(Path(argument).name.split(".")[0]), argument
    except RecipeError:
        msg = (
            f"--text {argument}: its name does not say the language; "
            f"write LANG=FILE, for example hi={argument}"
        )
        raise CorpusError(msg) from None


def read_sample(
    language: str, places: Sequence[str], sample_bytes: int = SAMPLE_BYTES
) -> TextSample:
    """Draw a sample from files, globs or hub data sets; raises `CorpusError` without text."""
    limit = max(READ_BYTES, sample_bytes)
    documents: dict[str, None] = {}
    given = 0
    cut_short = False
    for text in _texts(language, places):
        if given >= limit:
            cut_short = True
            break
        if text.strip() and text not in documents:
            documents[text] = None
            given += len(text.encode())
    if not documents:
        msg = f"{', '.join(places)}: holds no text to diagnose {language} on"
        raise CorpusError(msg)
    shuffled = list(documents)
    random.Random(0).shuffle(shuffled)
    chosen = tuple(first_documents(shuffled, sample_bytes))
    return TextSample(
        language, chosen, sum(len(text.encode()) for text in chosen), given, cut_short
    )


def _texts(language: str, places: Sequence[str]) -> Iterator[str]:
    for place in places:
        source = Source.parse(place)
        assert isinstance(source, Source)  # noqa: S101 - a string was given
        with closing(read_source(source, language)) as texts:
            yield from texts


@dataclass(frozen=True)
class Measures:
    """Counts of a text and its tokens. Shares are of the tokens.

    `words` are separated by Unicode word boundaries, `spaced_words` by white space, as most papers
    count. `torn` tokens hold a part of a character; `single` ones hold one character, with or
    without a space; `fallback` ones stand for a byte of a character without a piece; `unknown` ones
    lose the text. `round_trip` lists what decoding the ids of the first documents does not give
    back.
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
        ids = list(chain.from_iterable(tokenizer.encode(documents[start : start + _BATCH])))
        used += np.bincount(np.array(ids, dtype=np.int64), minlength=tokenizer.size)
    tokens = int(used.sum())
    kinds: Counter[str] = Counter()
    for token_id in np.flatnonzero(used).tolist():
        kinds.update(dict.fromkeys(_kinds(tokenizer.family, token_id), int(used[token_id])))
    share = {kind: count / max(tokens, 1) for kind, count in kinds.items()}
    return Measures(
        documents=len(documents),
        bytes=sum(len(text.encode()) for text in documents),
        characters=sum(map(len, documents)),
        words=sum(map(count_words, documents)),
        spaced_words=sum(len(text.split()) for text in documents),
        tokens=tokens,
        units=tokenizer.family.units(documents).total(),
        unspaced=is_unspaced(documents),
        fallback=share.get("fallback", 0.0),
        single=share.get("single", 0.0),
        torn=share.get("torn", 0.0),
        unknown=share.get("unknown", 0.0),
        round_trip=measure_round_trip(tokenizer, documents[:ROUND_TRIP_DOCUMENTS]),
    )


def _kinds(family: Family, token_id: int) -> list[str]:
    """Return the kind of a token; none for an ordinary one."""
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
    """Return the id of unknown characters; `None` where the tokenizer can write everything."""
    model: dict[str, Any] = family.data["model"]
    if family.fallback:
        return None
    if "unk_id" in model:
        return model["unk_id"] if model["unk_id"] is None else int(model["unk_id"])
    return family.pieces.get(model.get("unk_token") or "")


def premium(
    tokenizer: ModelTokenizer,
    parallel: Mapping[str, Sequence[str]],
    language: str,
    reference: str = "en",
) -> float:
    """Return the tokens of the same sentences over the reference's (Petrov et al. 2023)."""
    tokens = [sum(map(len, tokenizer.encode(parallel[tag]))) for tag in (language, reference)]
    return tokens[0] / max(tokens[1], 1)
