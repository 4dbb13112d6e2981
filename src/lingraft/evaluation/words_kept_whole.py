"""Words that a tokenizer keeps whole, also called single token retention rate (STRR).

STRR is the share of words that are one token (Nayeem et al. 2025, arXiv 2510.09947). The paper
takes a list of words and tokenises each word alone:

    STRR(T; W) = |{w in W: |T(w)| = 1}| / |W|

`frequent_words_kept` does this with the most frequent words of a text. `WordCounter` counts on
running text instead: a word is kept whole if no token ends inside it. So frequent words count more,
and the context of each word is the real one. A word that is part of a longer token is kept whole.

Positions are in bytes of UTF-8, because a token may be a part of a character.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lingraft.evaluation.bootstrap import measure_difference, measure_ratio
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.text_scores import Integers, TextScores
from lingraft.evaluation.words import split_words
from lingraft.measurement import Measurement
from lingraft.splice import Vocabulary
from lingraft.tokenizer import ModelTokenizer

KEPT, FREQUENT_KEPT = "words kept whole", "frequent words kept whole"
FREQUENT = 1000
"""Words in the list of the most frequent words of a text."""

SplitText = Callable[[str], list[str]]
"""A function that returns the words of a text in order."""


@dataclass(frozen=True)
class WordSpans:
    """The bytes at which the words of a text begin and end, and the size of the text in bytes."""

    starts: Integers
    ends: Integers
    size: int

    @classmethod
    def of(cls, text: str, words: Iterable[str]) -> WordSpans:
        """Find words, given in order, in their text.

        >>> spans = WordSpans.of("Ein Wörtchen.", ["Ein", "Wörtchen"])
        >>> spans.starts.tolist(), spans.ends.tolist(), spans.size
        ([0, 4], [3, 13], 14)
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
        return cls(np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64), len(data))


@dataclass(frozen=True)
class TokenPlaces:
    """Where the tokens of a vocabulary are in a text."""

    vocabulary: Vocabulary

    @cached_property
    def surfaces(self) -> list[bytes]:
        """The bytes of each id; those of an added token that is no control token are its text."""
        special = self.vocabulary.special
        surfaces = []
        for token_id, surface in enumerate(self.vocabulary.surfaces):
            content = special.get(token_id, "").encode() if surface is None else surface
            surfaces.append(content)
        return surfaces

    @cached_property
    def sizes(self) -> Integers:
        """The number of bytes of each id."""
        return np.array(list(map(len, self.surfaces)), dtype=np.int64)

    def read(self, ids: Sequence[int] | Integers) -> str:
        """Return the text of these ids; a byte that is not UTF-8 is a lone surrogate."""
        joined = b"".join([self.surfaces[token_id] for token_id in ids])
        return joined.decode(errors="surrogateescape")

    def ends(self, ids: Sequence[int] | Integers, size: int) -> Integers | None:
        """Return the byte at which each token ends in a text of `size` bytes.

        Returns `None` if the tokens spell another text, as they do where the normalizer changes it.
        """
        ends: Integers = np.cumsum(self.sizes[np.asarray(ids, dtype=np.int64)])
        longer = int(ends[-1]) - size if len(ends) else -size
        if longer == 0:
            return ends
        # SentencePiece begins a text with a space of its own.
        if longer == 1 and self.surfaces[ids[0]].startswith(b" "):
            return ends - 1
        return None


class WordCounter:
    """Counts the words of texts that a tokenizer keeps whole; `split` returns the words of a text.

    >>> counter = WordCounter(Vocabulary((b"Ein", b" W", b"ort", b" Wort")), str.split)
    >>> spans = WordSpans.of("Ein Wort", ["Ein", "Wort"])
    >>> counter.count(spans, [0, 1, 2]), counter.count(spans, [0, 3])
    (1, 2)
    """

    def __init__(self, vocabulary: Vocabulary, split: SplitText) -> None:
        self.places = TokenPlaces(vocabulary)
        self.split = split

    def count(self, spans: WordSpans, ids: Sequence[int] | Integers) -> int:
        """Return how many of the words of a text are whole in its tokens."""
        ends = self.places.ends(ids, spans.size)
        if ends is None:
            # The words of the text as the tokenizer has it. They may be fewer than those of the
            # text itself if characters are unknown; lost words are not kept.
            text = self.places.read(ids)
            spans = WordSpans.of(text, self.split(text))
            ends = np.cumsum(self.places.sizes[np.asarray(ids, dtype=np.int64)])
        inside = np.searchsorted(ends, spans.ends) - np.searchsorted(ends, spans.starts, "right")
        return int((inside == 0).sum())


def frequent_words_kept(tokenizer: ModelTokenizer, words: Counter[str]) -> tuple[int, int]:
    """Return how many of the most frequent words are one token, and the length of their list.

    Each word is tokenised alone, in the form that it has after a space.
    """
    frequent = [word for word, _ in words.most_common(FREQUENT)]
    prefix = tokenizer.family.chunk_prefix
    lengths = list(map(len, tokenizer.encode([prefix + word for word in frequent])))
    return lengths.count(1), len(frequent)


def measure_words_kept(
    tokenizers: Mapping[str, ModelTokenizer],
    scores: Mapping[str, TextScores],
    documents: Sequence[str],
    language: str,
    bootstrap: BootstrapSettings,
) -> Iterator[Measurement]:
    """Measure STRR of each tokenizer on the same documents, and the changes from the first one.

    A script without spaces between words has no measurement.
    """
    first = next(iter(scores))
    if scores[first].unspaced:
        return
    words = list(map(split_words, documents))
    spans = list(map(WordSpans.of, documents, words))
    totals = np.array(list(map(len, words)), dtype=np.float64)
    kept = {}
    for subject, score in scores.items():
        counter = WordCounter(tokenizers[subject].vocabulary, split_words)
        kept[subject] = np.array(list(map(counter.count, spans, score.documents())), np.float64)
    frequent: Counter[str] = Counter()
    for part in words:
        frequent.update(part)
    common = {"language": language, "bootstrap": bootstrap}
    for subject, counts in kept.items():
        note = "STRR on running text"
        share = measure_ratio(KEPT, "share", counts, totals, subject=subject, note=note, **common)
        yield from [share] if share else []
        one, of = frequent_words_kept(tokenizers[subject], frequent)
        if of:
            note = f"STRR of the {of:,} most frequent words"
            yield Measurement(
                FREQUENT_KEPT, subject, one / of, "share", language, n=of, per="word", note=note
            )
        if subject != first:
            pairs = (counts, totals), (kept[first], totals)
            change = measure_difference(
                KEPT, "share", *pairs, subject=subject, first=first, **common
            )
            yield from [change] if change else []
