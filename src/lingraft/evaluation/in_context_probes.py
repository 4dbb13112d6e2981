"""Probes of in-context learning: texts that can only be predicted from their own beginning.

Bits per byte hardly shows whether a model learns from its context. Continued pretraining without
text in the base language can lose this early while perplexity stays good (Elhady et al. 2025, arXiv
2506.00288). The probes are texts of random words, so nothing that a model knows of a language helps
to predict the words:

- *Copying*: a list of words, twice. A model that reads its context predicts the second list
  (Olsson et al. 2022, arXiv 2209.11895, with words in place of tokens).
- *Mapping*: lines `x: y` that repeat a few pairs of words in a new order each time, as examples of
  a task do. A model predicts `y` from an earlier line with the same `x`.

The *gain* is the bits per byte of words that are new to the context, minus those of the same words
when they come again; higher is better, and 0 is a model that does not use its context. It also
moves with the bits of the new words, which say nothing of the context. So the bits per byte of the
known words are measured, too; lower is better. The words
are whole tokens of the first model's vocabulary. All models read the same text, so their gains are
compared text by text, whatever their tokenizers are. Suffix: N texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log
from typing import Any
from unicodedata import category

import numpy as np

from lingraft.evaluation.bits_per_byte import choose_context
from lingraft.evaluation.bootstrap import Floats, measure_ratios
from lingraft.evaluation.byte_positions import Span, read_texts
from lingraft.evaluation.config import BootstrapSettings, EvaluationSettings, InContextSettings
from lingraft.evaluation.words_kept_whole import reads_unchanged
from lingraft.formatting import join_words
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer

COPYING, MAPPING = "copying gain", "mapping gain"
KNOWN = {
    COPYING: "bits per byte of copied words",
    MAPPING: "bits per byte of mapped words",
}
"""Gain of a probe -> the metric of its words once they are known."""
NOTE = "in-context probes"
"""The note of an evaluation on probes, or texts of them, that were not measured."""
WORDS = 1000
"""The words of the probes are drawn from the first of the vocabulary: merges and scores are in the
order of frequency, so the model has read these often."""
MIN_LETTERS = 3


@dataclass(frozen=True)
class ProbeText:
    """A text with the bytes of the words that are new to it, and of the same words once known."""

    text: str
    new: tuple[Span, ...]
    known: tuple[Span, ...]


def probe_words(tokenizer: ModelTokenizer) -> list[str]:
    """Return the first words of a vocabulary that are one token with a space in front."""
    words: dict[str, None] = {}
    for surface in tokenizer.vocabulary.surfaces:
        word = (surface or b"").decode(errors="replace")
        if word[:1] == " " and len(word) > MIN_LETTERS and _is_word(word[1:]):
            words[word[1:]] = None
        if len(words) == WORDS:
            break
    prefix = tokenizer.family.chunk_prefix
    # Merges can make a token unreachable.
    lengths = map(len, tokenizer.encode([prefix + word for word in words]))
    return [word for word, length in zip(words, lengths, strict=True) if length == 1]


def _is_word(text: str) -> bool:
    """Return whether a text is of letters and marks: vowel signs of many scripts are marks.

    >>> _is_word("नहीं"), _is_word("x1"), _is_word("")
    (True, False, False)
    """
    return text[:1].isalpha() and all(category(character)[0] in "LM" for character in text)


class _TextWriter:
    """Writes a text and returns the bytes of each part."""

    def __init__(self) -> None:
        self.data = b""

    def add(self, part: str) -> Span:
        begin = len(self.data)
        self.data += part.encode()
        return begin, len(self.data)


def copying_texts(words: Sequence[str], settings: InContextSettings) -> list[ProbeText]:
    """Return texts of random words, all of them twice in the same order."""
    random = np.random.default_rng([settings.seed, 0])
    texts = []
    for _ in range(settings.texts):
        drawn = random.choice(len(words), size=settings.copied_words, replace=False)
        writer = _TextWriter()
        first = [writer.add(f" {words[place]}") for place in drawn]
        second = [writer.add(f" {words[place]}") for place in drawn]
        # The first word of the second list cannot be known. The second word can, but its only
        # earlier occurrence is after the first word of the text, which may be written otherwise.
        texts.append(ProbeText(writer.data.decode(), tuple(first[2:]), tuple(second[2:])))
    return texts


def mapping_texts(words: Sequence[str], settings: InContextSettings) -> list[ProbeText]:
    """Return texts of lines `x: y`: the pairs are random, and come in random order in each round.

    The first round is new. Only the last round is scored as known: it has the most examples.
    """
    random = np.random.default_rng([settings.seed, 1])
    pairs = settings.mapped_pairs
    texts = []
    for _ in range(settings.texts):
        drawn = random.choice(len(words), size=2 * pairs, replace=False)
        writer, rounds = _TextWriter(), []
        for _round in range(settings.mapping_rounds):
            spans = []
            for pair in random.permutation(pairs):
                # No newline at the end of the text: some tokenizers strip it.
                writer.add("\n" if writer.data else "")
                writer.add(f"{words[drawn[pair]]}:")
                spans.append(writer.add(f" {words[drawn[pairs + pair]]}"))
            rounds.append(tuple(spans))
        texts.append(ProbeText(writer.data.decode(), rounds[0], rounds[-1]))
    return texts


@dataclass(frozen=True)
class ProbeScores:
    """The bits that each text saves in words that are known, their bits and their bytes, [N].

    The sum of `saved` over the sum of `bytes` is the gain in bits per byte.
    """

    saved: Floats
    known: Floats
    bytes: Floats


@dataclass(frozen=True)
class InContextProbes:
    """The texts of each probe, by metric."""

    texts: Mapping[str, Sequence[ProbeText]]

    @classmethod
    def of(cls, source: ModelTokenizer, settings: InContextSettings | None) -> InContextProbes:
        """Write the texts with words of the first model's vocabulary.

        There are none without settings, and if the vocabulary has too few words.
        """
        words = probe_words(source) if settings else []
        if settings is None or len(words) < settings.words_needed:
            return cls({})
        return cls(
            {COPYING: copying_texts(words, settings), MAPPING: mapping_texts(words, settings)}
        )

    def score(
        self, model: Any, tokenizer: ModelTokenizer, context: int | None = None
    ) -> dict[str, ProbeScores]:
        """Score the texts of each probe with a model in evaluation mode.

        Texts that the tokenizer's normalizer changes count as 0 of 0 bytes, because the place of
        their words is unknown.
        """
        context = choose_context(model, context)
        scores = {}
        for metric, texts in self.texts.items():
            read_by_model = read_texts(model, tokenizer, [text.text for text in texts], context)
            new, known, sizes = np.zeros((3, len(texts)))
            for number, (text, read) in enumerate(zip(texts, read_by_model, strict=True)):
                if read is not None:
                    new[number] = read.between(text.new) / log(2)
                    known[number] = read.between(text.known) / log(2)
                    sizes[number] = sum(end - begin for begin, end in text.known)
            scores[metric] = ProbeScores(new - known, known, sizes)
        return scores


@dataclass(frozen=True)
class InContextMeasure:
    """Measures the probes during training exactly as the final table does.

    `settings` has the context and the bootstrap.
    """

    tokenizer: ModelTokenizer
    probes: InContextProbes
    settings: EvaluationSettings

    def __call__(self, model: Any) -> dict[str, dict[str, float]]:
        """Return the `gain` of each probe and its interval, `low` and `high`.

        `known` are the bits per byte of words once known, from `known_low` to `known_high`.
        """
        scores = self.probes.score(model, self.tokenizer, self.settings.context)
        rows = {row.metric: row for row in measure_probes({"": scores}, self.settings.bootstrap)}
        points: dict[str, dict[str, float]] = {}
        for metric, known in KNOWN.items():
            if metric not in rows:
                continue
            points[metric] = {}
            for row, names in (
                (rows[metric], ("gain", "low", "high")),
                (rows[known], ("known", "known_low", "known_high")),
            ):
                if row.low is not None and row.high is not None:
                    numbers = row.value, row.low, row.high
                    points[metric].update(zip(names, numbers, strict=True))
        return points


def measure_probes(
    scores: Mapping[str, Mapping[str, ProbeScores]], bootstrap: BootstrapSettings
) -> Iterator[Measurement]:
    """Yield the gain of each model in each probe, its bits in known words, and their changes.

    `scores` are the results of `InContextProbes.score` by subject.
    """
    common: dict[str, Any] = {
        "language": "",
        "bootstrap": bootstrap,
        "per": "text",
        "split": "probe",
    }
    for metric in next(iter(scores.values())):
        gains, known = {}, {}
        for subject, one in scores.items():
            gains[subject] = one[metric].saved, one[metric].bytes
            known[subject] = one[metric].known, one[metric].bytes
        note = "random words, new to the text minus known from it"
        yield from measure_ratios(metric, "bits/byte", gains, note=note, **common)
        note = "random words, known from the text"
        yield from measure_ratios(KNOWN[metric], "bits/byte", known, note=note, **common)


def probe_note(
    tokenizers: Mapping[str, ModelTokenizer],
    settings: InContextSettings | None,
    measurements: Sequence[Measurement],
) -> str:
    """Return why probes, or some of their texts, were not measured; "" if all were."""
    counts = {row.metric: row.n for row in measurements if row.metric in KNOWN}
    if settings is None or all(counts.get(metric) == settings.texts for metric in KNOWN):
        return ""
    source = next(iter(tokenizers.values()))
    probes = InContextProbes.of(source, settings)
    if not probes.texts:
        return (
            f"not measured: the vocabulary of the first model has {len(probe_words(source))} words "
            f"that are one token, and {settings.words_needed} are needed"
        )
    texts = [text.text for text in chain.from_iterable(probes.texts.values())]
    reasons = []
    for subject, tokenizer in tokenizers.items():
        changed = len(texts) - int(reads_unchanged(tokenizer, texts).sum())
        if changed:
            reasons.append(f"the tokenizer of {subject} changes {changed} of {len(texts)} texts")
    return f"texts that a tokenizer changes are not measured: {join_words(reasons)}"
