"""Predict how many tokens a vocabulary of added tokens saves, on text that it is not learned from.

A fifth of the sample is held out. Continued BPE learns tokens from the rest, and from half of the
rest. The learner gets the held-out text with weight 0, so its segmentation is known after every
token without building a tokenizer. If the text to evaluate is known (a run's held-out text), it
replaces the fifth. Its documents are then not resampled, so the interval does not cover other
texts. `extrapolate` extends the results of half and all of the sample to the amount of text from
which the tokens will be learned.

Suffixes: G groups of held-out documents, K sizes, T targets, E entries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lingraft.forecast.extrapolate import TARGETS, Floats, extrapolate
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary import ContinuedBPE, SelectionRequest
from lingraft.vocabulary.auto_size import SIZES
from lingraft.vocabulary.bpe_learner import BPELearner
from lingraft.vocabulary.word_counts import cut_by_base, cut_words

HELDOUT_SHARE = 0.2
GROUPS = 50
MIN_DOCUMENTS = 20
MIN_BYTES = 20_000
DEFAULT_METHOD = ContinuedBPE()


@dataclass(frozen=True)
class FertilityPoint:
    """The share of the text's tokens that is left with `added` tokens, with its 95% interval."""

    added: int
    share: float
    low: float
    high: float

    @property
    def reduction(self) -> float:
        """The factor by which the number of tokens falls."""
        return 1 / self.share


@dataclass(frozen=True)
class FertilityCurve:
    """The share of tokens left by number of added tokens.

    The curve is for tokens learned from `learned_from` bytes, measured on `train_bytes`. `found` is
    the number of tokens that save anything in them; larger sizes are extrapolated. `growth` is the
    share by which a changed pre-tokenizer increases the tokens before any token is added.
    """

    points: tuple[FertilityPoint, ...]
    learned_from: int
    train_bytes: int
    heldout_bytes: int
    found: int
    growth: float = 0.0

    def at(self, added: int) -> FertilityPoint:
        """Return the point of one of `SIZES`."""
        return next(point for point in self.points if point.added == added)


@dataclass(frozen=True)
class GroupedUnits:
    """Units of held-out text by group of documents.

    Entry E counts how often a unit (its index in `units`) occurs in a group.
    """

    units: list[str]
    unit_by_entry: npt.NDArray[np.int64]
    group_by_entry: npt.NDArray[np.int64]
    count_by_entry: npt.NDArray[np.int64]
    groups: int
    bytes: int

    def tokens(self, length_by_unit: npt.NDArray[np.int64]) -> Floats:
        """Return the tokens of each group, [G], from the tokens of each unit."""
        tokens_E = (length_by_unit[self.unit_by_entry] * self.count_by_entry).astype(np.float64)
        tokens_G = np.bincount(self.group_by_entry, weights=tokens_E, minlength=self.groups)
        return tokens_G.astype(np.float64)


def predict_fertility(
    family: Family,
    changed: Family | None,
    documents: Sequence[str],
    learned_from: int,
    *,
    evaluated: Sequence[str] = (),
    sizes: Sequence[int] = SIZES,
    method: ContinuedBPE = DEFAULT_METHOD,
) -> list[FertilityCurve] | None:
    """Predict the curve of a family, and of one with a changed pre-tokenizer.

    Both are relative to the tokens of the first family. `evaluated` is the text to predict for; by
    default a part of the documents is held out. `sizes` are in ascending order. `method` has the
    settings that tokens are learned with. Returns `None` if there is too little text to split.
    """
    documents = _documents_or_lines(documents)
    if len(documents) < MIN_DOCUMENTS or text_bytes(documents) < MIN_BYTES:
        return None
    split = 0 if evaluated else max(round(len(documents) * HELDOUT_SHARE), 2)
    heldout, train = evaluated or documents[:split], documents[split:]
    base_G = None
    curves = []
    for candidate in (family, changed) if changed else (family,):
        grouped = _group_units(candidate, heldout, groups=1 if evaluated else GROUPS)
        curve, base_G = _curve(
            candidate, train, grouped, base_G, learned_from, sizes=sizes, method=method
        )
        curves.append(curve)
    return curves


def text_bytes(texts: Sequence[str]) -> int:
    """Return the size of texts in bytes of UTF-8."""
    return sum(len(text.encode()) for text in texts)


def _documents_or_lines(documents: Sequence[str]) -> Sequence[str]:
    """Return the documents, or their distinct lines if there are too few documents to split."""
    if len(documents) >= 2 * MIN_DOCUMENTS:
        return documents
    lines: dict[str, None] = {}
    for text in documents:
        lines.update(dict.fromkeys(text.splitlines()))
    return [line for line in lines if line.strip()]


def _curve(
    family: Family,
    train: Sequence[str],
    heldout: GroupedUnits,
    base_G: Floats | None,
    learned_from: int,
    *,
    sizes: Sequence[int],
    method: ContinuedBPE,
) -> tuple[FertilityCurve, Floats]:
    """Learn from all and from half of the text, and extrapolate; return the base tokens as well."""
    # Every second document, so that both halves come from all parts of the sample.
    half, other_half = family.units(train[::2]), family.units(train[1::2])
    half_KG, found_half = _learn(family, half, heldout, sizes, method)
    full_KG, found = _learn(family, half + other_half, heldout, sizes, method)
    base_G = full_KG[0] if base_G is None else base_G
    train_bytes = text_bytes(train)
    doublings = max(math.log2(max(learned_from, 1) / train_bytes), 0.0)
    lower_bound_G = heldout.tokens(np.ones(len(heldout.units), dtype=np.int64))
    shares = extrapolate(
        base_G,
        half_KG[1:],
        full_KG[1:],
        lower_bound_G,
        doublings=doublings,
        useful=(found_half, found),
        sizes=sizes,
    )
    points = tuple(map(FertilityPoint, sizes, *shares))
    growth = float(full_KG[0].sum() / base_G.sum()) - 1 if base_G.sum() else 0.0
    learned_from = max(learned_from, train_bytes)
    curve = FertilityCurve(points, learned_from, train_bytes, heldout.bytes, found, growth)
    return curve, base_G


def _group_units(family: Family, documents: Sequence[str], groups: int = GROUPS) -> GroupedUnits:
    groups = min(groups, len(documents))
    index: dict[str, int] = {}
    entries = []
    for group in range(groups):
        for unit, count in family.units(documents[group::groups]).items():
            entries.append((index.setdefault(unit, len(index)), group, count))
    unit_E, group_E, count_E = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    size = text_bytes(documents)
    return GroupedUnits(list(index), unit_E, group_E, count_E, groups, size)


def _learn(
    family: Family,
    counts: Counter[str],
    heldout: GroupedUnits,
    sizes: Sequence[int] = SIZES,
    method: ContinuedBPE = DEFAULT_METHOD,
) -> tuple[Floats, int]:
    """Return the tokens of each group with 0 and `sizes` tokens added, and the useful tokens.

    The first has the shape [1 + K, G].
    """
    if not isinstance(family, Unigram):
        return _count_with_learner(family, counts, heldout, sizes, method)
    surfaces = method.select(SelectionRequest(family, counts, sizes[-1])).surfaces
    return _count_with_tokenizer(family, surfaces, heldout, sizes), len(surfaces)


def _count_with_learner(
    family: Family,
    counts: Counter[str],
    heldout: GroupedUnits,
    sizes: Sequence[int],
    method: ContinuedBPE,
) -> tuple[Floats, int]:
    """Count with the segmentation of the learner: in BPE families it is that of the tokenizer."""
    all_units = Counter(counts)
    for unit in heldout.units:
        all_units.setdefault(unit, 0)
    learner = BPELearner(
        cut_words(family, all_units),
        cut_alone=cut_by_base(family),
        minimum=method.min_saving,
        step_cost=method.step_cost,
        allowed=lambda surface: len(surface) <= method.max_token_bytes and family.allows(surface),
    )
    # `cut_words` sorts the units in this way, so this is the index of a unit in the learner.
    ordered = sorted(all_units, key=lambda unit: (-all_units[unit], unit))
    word_index = dict(zip(ordered, range(len(ordered)), strict=True))
    heldout_words = np.array([word_index[unit] for unit in heldout.units], dtype=np.int64)
    tokens_KG, added = [heldout.tokens(_lengths(learner)[heldout_words])], 0
    for size in sizes:
        for _ in learner.run(size - added):
            pass
        added = size
        tokens_KG.append(heldout.tokens(_lengths(learner)[heldout_words]))
    return np.array(tokens_KG), len(learner.learned.surfaces)


def _lengths(learner: BPELearner) -> npt.NDArray[np.int64]:
    """Return the current tokens of each word; a character without a token costs its bytes."""
    words, symbols = learner.words, learner.index.symbol
    cost = np.ones(len(learner.surfaces), dtype=np.int64)
    cost[words.virtual : words.virtual + len(words.costs)] = words.costs
    ends = np.concatenate([[0], np.cumsum(np.where(symbols >= 0, cost[symbols], 0))])
    return np.asarray(ends[words.starts[1:]] - ends[words.starts[:-1]])


def _count_with_tokenizer(
    family: Family, surfaces: Sequence[bytes], heldout: GroupedUnits, sizes: Sequence[int]
) -> Floats:
    """Count with extended tokenizers at some of `sizes`, for families without merges.

    Building and running a tokenizer is slow, so the other sizes are interpolated.
    """
    targets = sorted({*TARGETS, *set(sizes).difference(SIZES)})
    tokens_TG = []
    for size in (0, *targets):
        extended = type(family)(family.with_tokens(surfaces[:size])) if size else family
        lengths = list(map(len, extended.segment(heldout.units)))
        tokens_TG.append(heldout.tokens(np.array(lengths, dtype=np.int64)))
    # log1p keeps size 0 on the logarithmic scale.
    known = np.log1p(np.array([0, *targets]))
    requested = np.log1p(np.array([0, *sizes]))
    by_group = np.array(tokens_TG).T
    return np.stack([np.interp(requested, known, tokens_T) for tokens_T in by_group], axis=1)


@dataclass(frozen=True)
class TokensPerByte:
    """Tokens per byte by number of added tokens, from 0 on, with 95% intervals."""

    sizes: tuple[int, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, added: float) -> tuple[float, float, float]:
        """Return value, low and high at any size up to the largest one.

        >>> curve = TokensPerByte((0, 1000), (0.5, 0.25), (0.5, 0.24), (0.5, 0.26))
        >>> curve.at(0), curve.at(1000), 0.25 < curve.at(300)[0] < 0.5
        ((0.5, 0.5, 0.5), (0.25, 0.24, 0.26), True)
        """
        if len(self.sizes) == 1:
            return self.values[0], self.low[0], self.high[0]
        # On logarithmic scales the curve is nearly straight. Half of the first size as the unit
        # puts size 0 on the scale.
        unit = self.sizes[1] / 2
        position = np.log1p(min(max(added, 0), self.sizes[-1]) / unit)
        known = np.log1p(np.array(self.sizes) / unit)
        value = _interpolate(known, self.values, position)
        low = _interpolate(known, self.low, position)
        high = _interpolate(known, self.high, position)
        return value, low, high


def _interpolate(known: Floats, values: Sequence[float], position: float) -> float:
    """Return the exponential of a monotone cubic interpolation (Fritsch and Carlson 1980)."""
    from scipy.interpolate import PchipInterpolator

    logarithm = float(PchipInterpolator(known, np.log(values))(position))
    return round(float(np.exp(logarithm)), 12)  # rounded: a known size gives exactly its value


def tokens_per_byte(now: float, curve: FertilityCurve) -> TokensPerByte:
    """Return the curve in tokens per byte; `now` is the value without added tokens."""
    sizes, values, low, high = [0], [now], [now], [now]
    for point in curve.points:
        sizes.append(point.added)
        values.append(now * point.share)
        low.append(now * point.low)
        high.append(now * point.high)
    return TokensPerByte(tuple(sizes), tuple(values), tuple(low), tuple(high))
