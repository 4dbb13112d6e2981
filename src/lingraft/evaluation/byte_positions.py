"""Bits per byte by position in a document, and what a model gains from a document's beginning.

Positions are bytes, so that models with different tokenizers are compared on the same text. The
nats of a token are spread evenly over its bytes. Spans of positions double in length: 0 to 64
bytes, 64 to 128, and so on. A document counts in every span that it fills, so the later spans have
fewer documents.

The *in-context gain* is the bits per byte at bytes 128 to 256 of a document, minus those at bytes
1,024 to 2,048: in English text, these are about the tokens 50 and 500 at which Olsson et al. (2022,
arXiv 2209.11895) compare the loss. It is the mean over documents, and higher is better (the sign is
opposite to that of the paper). As many documents are shorter, the gain at bytes 512 to 1,024 is a
metric of its own: a mean never mixes later spans. Suffixes: N documents, K spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log
from typing import Any

import numpy as np

from lingraft.evaluation.bits_per_byte import choose_stride, score_ids
from lingraft.evaluation.bootstrap import Floats, measure_ratios
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.text_scores import DocumentScores, Integers, TextScores
from lingraft.evaluation.words_kept_whole import TokenPlaces
from lingraft.formatting import join_words
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer

Span = tuple[int, int]
EDGES = (0, *(64 * 2**power for power in range(15)))
"""The ends of all spans, up to 1 MiB."""
SPANS: tuple[Span, ...] = tuple(pairwise(EDGES))
EARLY: Span = (128, 256)
IN_CONTEXT_GAINS: dict[str, Span] = {
    "in-context gain at bytes 512 to 1,024": (512, 1024),
    "in-context gain at bytes 1,024 to 2,048": (1024, 2048),
}
"""Each in-context gain and its later span."""


@dataclass(frozen=True)
class NatsByByte:
    """The nats of a text as a function of its bytes; `ends` is the byte at which each token ends.

    >>> read = NatsByByte(np.array([4, 6]), np.array([2.0, 3.0]))
    >>> read.between([(0, 4)]), read.between([(2, 5), (5, 6)])
    (2.0, 4.0)
    """

    ends: Integers
    nats: Floats

    @cached_property
    def _cumulative(self) -> tuple[Any, Floats]:
        """The bytes at which tokens end, each once, and the nats up to there."""
        # Tokens without bytes end where others do: their nats belong to the same place.
        is_last = np.append(self.ends[1:] > self.ends[:-1], True) & (self.ends > 0)
        sums = np.cumsum(self.nats)[is_last]
        return np.append(0, self.ends[is_last]), np.append(0.0, sums)

    def until(self, positions: Sequence[int]) -> Floats:
        """Return the nats of the bytes before each position."""
        result: Floats = np.interp(positions, *self._cumulative)
        return result

    def between(self, spans: Iterable[Span]) -> float:
        """Return the nats of all bytes in the spans."""
        begins, ends = zip(*spans, strict=True)
        return float((self.until(ends) - self.until(begins)).sum())


def read_texts(
    model: Any, tokenizer: ModelTokenizer, texts: Sequence[str], context: int
) -> list[NatsByByte | None]:
    """Score texts with a model in evaluation mode; `None` for one that its tokenizer changes."""
    places, ids = TokenPlaces.of(tokenizer), tokenizer.encode(texts)
    stride = choose_stride(context)
    nats = score_ids(model, tokenizer, ids, context=context, stride=stride).token_nats
    read: list[NatsByByte | None] = []
    parts = np.split(nats, np.cumsum(list(map(len, ids)))[:-1])
    for text, tokens, part in zip(texts, ids, parts, strict=True):
        ends = places.ends(tokens, text)
        read.append(None if ends is None else NatsByByte(ends, part))
    return read


@dataclass(frozen=True)
class PositionBits:
    """The bits of each document in each span, [N, K]; 0 where a document does not fill a span.

    `filled` says which spans a document fills, [N, K].
    """

    bits: Floats
    filled: Any

    @classmethod
    def of(
        cls, scores: DocumentScores, documents: Sequence[str], places: TokenPlaces
    ) -> PositionBits:
        """Compute the bits from the nats of tokens.

        A document fills no span if the tokenizer's normalizer changes it: then no position is
        known.
        """
        parts = zip(scores.documents(), scores.document_token_nats(), documents, strict=True)
        bits_NK = np.zeros((len(scores.tokens), len(SPANS)))
        filled_NK = np.zeros_like(bits_NK, dtype=bool)
        for document, (ids, nats, text) in enumerate(parts):
            ends = places.ends(ids, text) if len(ids) else None
            if ends is not None:
                filled = np.array(EDGES[1:]) <= scores.bytes[document]
                spread = np.diff(NatsByByte(ends, nats).until(EDGES)) / log(2)
                bits_NK[document], filled_NK[document] = spread * filled, filled
        return cls(bits_NK, filled_NK)

    def gain(self, late: Span) -> tuple[Floats, Floats]:
        """Return the in-context gain of each document, and 1 for documents that are long enough.

        Both are 0 for others.
        """
        early_K, late_K = SPANS.index(EARLY), SPANS.index(late)
        long_N = (self.filled[:, early_K] & self.filled[:, late_K]).astype(np.float64)
        early_bits = self.bits[:, early_K] / (EARLY[1] - EARLY[0])
        late_bits = self.bits[:, late_K] / (late[1] - late[0])
        return (early_bits - late_bits) * long_N, long_N

    def restricted(self, filled: Any) -> PositionBits:
        """Return these bits without the documents and spans that are not in `filled`."""
        kept = self.filled & filled
        return PositionBits(self.bits * kept, kept)


def position_metric(span: Span) -> str:
    """Return the name of bits per byte at the positions of a span.

    >>> position_metric((1024, 2048))
    'bits per byte at bytes 1,024 to 2,048'
    """
    return f"bits per byte at bytes {span[0]:,} to {span[1]:,}"


def position_spans() -> dict[str, Span]:
    """Return the span of each such metric."""
    return {position_metric(span): span for span in SPANS}


def measure_positions(
    tokenizers: Mapping[str, ModelTokenizer],
    scores: Mapping[str, TextScores],
    documents: Sequence[str],
    language: str,
    bootstrap: BootstrapSettings,
) -> Iterator[Measurement]:
    """Yield the in-context gain and bits per byte by position of each model, and the changes.

    Only documents that all models read unchanged count. Spans begin in the first window of at least
    one model: later text is read with a full window in front of it, wherever it is.
    """
    found = {}
    for subject, score in scores.items():
        found[subject] = PositionBits.of(score, documents, TokenPlaces.of(tokenizers[subject]))
    yield from measure_gains(found, language, bootstrap)
    filled_NK = _filled_in_all(found)
    for column, span in enumerate(SPANS):
        if span[0] >= window_bytes(scores):
            break
        sizes_N = filled_NK[:, column] * float(span[1] - span[0])
        bits = {subject: (one.bits[:, column], sizes_N) for subject, one in found.items()}
        metric = position_metric(span)
        yield from measure_ratios(metric, "bits/byte", bits, language=language, bootstrap=bootstrap)


def measure_gains(
    found: Mapping[str, PositionBits], language: str, bootstrap: BootstrapSettings
) -> Iterator[Measurement]:
    """Yield the in-context gain of each model, and the changes from the first one."""
    filled_NK = _filled_in_all(found)
    for metric, late in IN_CONTEXT_GAINS.items():
        gains = {subject: bits.restricted(filled_NK).gain(late) for subject, bits in found.items()}
        note = f"bytes {EARLY[0]} to {EARLY[1]} minus bytes {late[0]:,} to {late[1]:,}"
        yield from measure_ratios(
            metric, "bits/byte", gains, language=language, bootstrap=bootstrap, note=note
        )


def _filled_in_all(found: Mapping[str, PositionBits]) -> Any:
    return np.logical_and.reduce([bits.filled for bits in found.values()])


def window_bytes(scores: Mapping[str, TextScores]) -> float:
    """Return the bytes of a text that the window of a model holds, the most of all models."""
    return max(
        score.context * float(score.bytes.sum()) / max(1, len(score.ids))
        for score in scores.values()
    )


def position_notes(
    tokenizers: Mapping[str, ModelTokenizer],
    scores: Mapping[str, TextScores],
    documents: Sequence[str],
    measurements: Sequence[Measurement],
) -> dict[str, str]:
    """Return notes, by metric, on what `measure_positions` could not measure.

    Documents are too short, or a tokenizer changes them, so that no position in them is known.
    """
    measured = {row.metric for row in measurements}
    sizes_N = next(iter(scores.values())).bytes
    shortest, (_, needed) = next(iter(IN_CONTEXT_GAINS.items()))
    window = window_bytes(scores)
    wanted = [span for span in SPANS if span[0] < window]
    found = [span for span in wanted if position_metric(span) in measured]
    if shortest in measured and len(found) == len(wanted):
        return {}
    changed = changed_documents(tokenizers, scores, documents)
    notes = {}
    if shortest not in measured:
        is_long = (sizes_N >= needed).sum() >= 2
        short = "" if is_long else f"fewer than two documents have {needed:,} bytes"
        notes["in-context gain"] = f"not measured: {'; '.join(filter(None, (short, changed)))}"
    if len(found) < len(wanted):
        end = found[-1][1] if found else 0
        is_long = (sizes_N >= wanted[len(found)][1]).sum() >= 2
        short = "" if is_long else "fewer than two documents are longer"
        reasons = "; ".join(filter(None, (short, changed)))
        notes["bits per byte by position"] = (
            f"measured up to byte {end:,}: {reasons}, and a window holds about {window:,.0f} bytes"
        )
    return notes


def changed_documents(
    tokenizers: Mapping[str, ModelTokenizer],
    scores: Mapping[str, TextScores],
    documents: Sequence[str],
) -> str:
    """Return in words how many documents each tokenizer changes; "" if none."""
    reasons = []
    for subject, score in scores.items():
        places, count = TokenPlaces.of(tokenizers[subject]), 0
        for ids, text in zip(score.documents(), documents, strict=True):
            count += len(ids) > 0 and places.ends(ids, text) is None
        if count:
            reasons.append(
                f"the tokenizer of {subject} changes {count:,} of {len(score.bytes):,} documents"
            )
    return join_words(reasons)
