"""Words that a tokenizer keeps whole, also called single token retention rate (STRR).

STRR is the share of words that are one token (Nayeem et al. 2025, arXiv 2510.09947). The paper
takes a list of words and tokenises each word alone:

    STRR(T; W) = |{w in W: |T(w)| = 1}| / |W|

`TextWords.frequent` is such a list: the most frequent words of a text. `WordCounter` counts on
running text instead: a word is kept whole if no token ends inside it. So frequent words count more,
and the context of each word is the real one. A word that is part of a longer token is kept whole.

In scripts without spaces, syllables or characters take the place of words (`text_units`). A text of
characters has no list: many tokenizers cannot write a character alone without a space before it.

Positions are in bytes of UTF-8, because a token may be a part of a character.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lingraft.evaluation.bootstrap import measure_difference, measure_ratio
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.text_scores import Integers, TextScores
from lingraft.measurement import Measurement
from lingraft.text_units import TextUnit
from lingraft.tokenizer import ModelTokenizer

FREQUENT_KEPT = "frequent words kept whole"
FREQUENT = 1000
"""Words in the list of the most frequent words of a text."""
LOST = "\N{CYRILLIC LETTER MULTIOCULAR O}"
"""A letter in place of text that an unknown token loses; no word that contains it is kept."""


@dataclass(frozen=True)
class WordSpans:
    """A text, and the bytes at which its words begin and end."""

    starts: Integers
    ends: Integers
    text: str

    @classmethod
    def of(cls, text: str, words: Iterable[str]) -> WordSpans:
        """Find words, given in order, in their text.

        >>> spans = WordSpans.of("Ein Wörtchen.", ["Ein", "Wörtchen"])
        >>> spans.starts.tolist(), spans.ends.tolist()
        ([0, 4], [3, 13])
        """
        # Lone surrogates stand for bytes that are not UTF-8 (see `TokenPlaces.read`).
        data = text.encode(errors="surrogateescape")
        starts, ends, end = [], [], 0
        for word in words:
            encoded = word.encode(errors="surrogateescape")
            start = data.index(encoded, end)
            end = start + len(encoded)
            starts.append(start)
            ends.append(end)
        return cls(np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64), text)

    @classmethod
    def of_characters(cls, text: str) -> WordSpans:
        """Find the characters of a text.

        >>> WordSpans.of_characters("né ก").ends.tolist()
        [1, 3, 4, 7]
        """
        data = np.frombuffer(text.encode(errors="surrogateescape"), dtype=np.uint8)
        # Every byte of a character but its first one has the form 10xxxxxx.
        starts = np.flatnonzero((data & 0xC0) != 0x80).astype(np.int64)
        return cls(starts, np.append(starts[1:], len(data)), text)


@dataclass(frozen=True)
class TokenPlaces:
    """Where the tokens of a tokenizer are in a text; `surfaces` has the bytes of each id."""

    surfaces: Sequence[bytes]

    @classmethod
    def of(cls, tokenizer: ModelTokenizer) -> TokenPlaces:
        """Read the bytes of each token.

        Those of an added token are its text. A control token or the unknown token stands for text
        that is unknown.
        """
        special, family = tokenizer.vocabulary.special, tokenizer.family
        lost = {*family.control, family.unknown}
        surfaces = []
        for token_id, surface in enumerate(tokenizer.vocabulary.surfaces):
            content = LOST if token_id in lost else special.get(token_id, "")
            surfaces.append(content.encode() if surface is None else surface)
        return cls(surfaces)

    @cached_property
    def sizes(self) -> Integers:
        """The number of bytes of each id."""
        return np.array(list(map(len, self.surfaces)), dtype=np.int64)

    @cached_property
    def loses(self) -> npt.NDArray[np.bool_]:
        """Which ids stand for text that is unknown."""
        return np.array([surface == LOST.encode() for surface in self.surfaces])

    def read(self, ids: Sequence[int] | Integers) -> str:
        """Return the text of these ids; a byte that is not UTF-8 is a lone surrogate."""
        joined = b"".join([self.surfaces[token_id] for token_id in ids])
        return joined.decode(errors="surrogateescape")

    def ends(self, ids: Sequence[int] | Integers, text: str) -> Integers | None:
        """Return the byte at which each token ends in a text.

        Returns `None` if the tokens spell a text of another size, as they do where the normalizer
        changes it or characters are unknown.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        ends: Integers = np.cumsum(self.sizes[tokens])
        size = len(text.encode(errors="surrogateescape"))
        if self.loses[tokens].any():
            return None
        longer = int(ends[-1]) - size if len(ends) else -size
        begins_with_space = len(ends) > 0 and self.surfaces[ids[0]].startswith(b" ")
        # SentencePiece begins a text with a space of its own.
        if longer == 1 and begins_with_space:
            return ends - 1
        # The same size, but for such a space and a last character that is stripped.
        is_shifted = begins_with_space and not text.startswith(" ")
        return None if longer or is_shifted else ends


def reads_unchanged(tokenizer: ModelTokenizer, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which texts the tokenizer reads as they are, so that the places of tokens are known.

    [number of texts].
    """
    places = TokenPlaces.of(tokenizer)
    pairs = zip(tokenizer.encode(texts), texts, strict=True)
    return np.array([places.ends(ids, text) is not None for ids, text in pairs], dtype=bool)


@dataclass(frozen=True)
class TextWords:
    """The units of a text: where they are in each document, and the most frequent words.

    `frequent` is empty if the unit is not the word.
    """

    unit: TextUnit
    spans: Sequence[WordSpans]
    frequent: Sequence[str]

    @classmethod
    def of(cls, documents: Iterable[str], unit: TextUnit) -> TextWords:
        """Find the units of documents."""
        counts: Counter[str] = Counter()
        if unit is TextUnit.CHARACTER:
            return cls(unit, list(map(WordSpans.of_characters, documents)), ())
        spans = []
        for text in documents:
            words = unit.split_text(text)
            spans.append(WordSpans.of(text, words))
            if unit is TextUnit.WORD:
                counts.update(words)
        return cls(unit, spans, [word for word, _ in counts.most_common(FREQUENT)])

    @property
    def units(self) -> int:
        """The number of units of all documents."""
        return sum(len(spans.starts) for spans in self.spans)


class WordCounter:
    """Counts the words (or other units) of documents that a tokenizer keeps whole.

    >>> places = TokenPlaces([b"Ein", b" W", b"ort", b" Wort"])
    >>> counter = WordCounter(places, TextUnit.WORD)
    >>> spans = WordSpans.of("Ein Wort", ["Ein", "Wort"])
    >>> counter.count(spans, [0, 1, 2]), counter.count(spans, [0, 3])
    ((1, 2), (2, 2))
    """

    def __init__(self, places: TokenPlaces, unit: TextUnit) -> None:
        self.places, self.unit = places, unit

    def count(self, spans: WordSpans, ids: Sequence[int] | Integers) -> tuple[int, int]:
        """Return how many of the words of a text are whole in its tokens, and of how many.

        A normalizer may write one word as several: NFKC makes four of ﷺ. Lost words count as not
        kept. So the number is that of the text or of the tokens, whichever is higher.
        """
        words = len(spans.starts)
        ends = self.places.ends(ids, spans.text)
        if ends is None:
            # The words of the text as the tokenizer has it.
            spans = self._find(self.places.read(ids))
            ends = np.cumsum(self.places.sizes[np.asarray(ids, dtype=np.int64)])
        # The tokens that end behind the start of a word and before its end.
        inside = np.searchsorted(ends, spans.ends) - np.searchsorted(ends, spans.starts, "right")
        return int((inside == 0).sum()), max(words, len(spans.starts))

    def _find(self, text: str) -> WordSpans:
        if self.unit is TextUnit.CHARACTER:
            spans = WordSpans.of_characters(text)
            kept = [character != LOST for character in text]
            return replace(spans, starts=spans.starts[kept], ends=spans.ends[kept])
        words = self.unit.split_text(text)
        return WordSpans.of(text, [word for word in words if LOST not in word])


def frequent_words_kept(tokenizer: ModelTokenizer, words: Sequence[str]) -> float:
    """Return the share of words that are one token, each in the form that it has after a space."""
    prefix, loses = tokenizer.family.chunk_prefix, TokenPlaces.of(tokenizer).loses
    kept = 0
    for ids in tokenizer.encode([prefix + word for word in words]):
        # An unknown token keeps no word.
        kept += len(ids) == 1 and not loses[ids[0]]
    return kept / len(words)


def measure_words_kept(
    tokenizers: Mapping[str, ModelTokenizer],
    scores: Mapping[str, TextScores],
    documents: Sequence[str],
    language: str,
    bootstrap: BootstrapSettings,
) -> Iterator[Measurement]:
    """Measure STRR of each tokenizer on the same documents, and the changes from the first one."""
    first = next(iter(scores))
    unit = scores[first].unit
    words = TextWords.of(documents, unit)
    kept = {}
    for subject, score in scores.items():
        count = WordCounter(TokenPlaces.of(tokenizers[subject]), unit).count
        counts = np.array(list(map(count, words.spans, score.documents())), dtype=np.float64)
        whole, of_words = counts.reshape(-1, 2).T
        kept[subject] = whole, of_words
    metric, of = unit.kept_whole, len(words.frequent)
    common: dict[str, Any] = {"language": language, "bootstrap": bootstrap}
    for subject, ratio in kept.items():
        note = "STRR on running text"
        yield from measure_ratio(metric, "share", *ratio, subject=subject, note=note, **common)
        if of:
            value = frequent_words_kept(tokenizers[subject], words.frequent)
            note = f"STRR of the {of:,} most frequent words"
            yield Measurement(
                FREQUENT_KEPT, subject, value, "share", language, n=of, per="word", note=note
            )
        if subject != first:
            yield from measure_difference(
                metric, "share", ratio, kept[first], subject=subject, first=first, **common
            )
