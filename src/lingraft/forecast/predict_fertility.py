"""Predict how many tokens added tokens save, measured on text that they were not learned from.

A fifth of the sample is held out. Continued BPE learns tokens from the rest, and from half of the
rest. Held-out text is given to the learner with weight 0, so its segmentation is known after every
token without building a tokenizer. Where `wanted` text is named (a run's held-out text), it
replaces that fifth, and the interval does not cover other texts: groups of documents are not
resampled. `extrapolate` carries the result of half and all of the text on to the text that tokens
would really be learned from. Suffixes: G groups of held-out documents, K sizes, T targets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lingraft.forecast.extrapolate import SIZES, TARGETS, Floats, extrapolate
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary import ContinuedBPE, SelectionRequest
from lingraft.vocabulary.bpe_learner import BPELearner
from lingraft.vocabulary.word_counts import cut_by_base, cut_words

HELDOUT_SHARE = 0.2
GROUPS = 50
LEAST_DOCUMENTS = 20
LEAST_BYTES = 20_000


@dataclass(frozen=True)
class FertilityPoint:
    """The share of the text's tokens that is left with so many added, with its 95% interval."""

    added: int
    share: float
    low: float
    high: float

    @property
    def reduction(self) -> float:
        """How many times fewer tokens."""
        return 1 / self.share


@dataclass(frozen=True)
class FertilityCurve:
    """The share of tokens left by number of added tokens.

    The curve is for tokens learned from `learned_from` bytes; `train_bytes` were really read.
    `found` is how many tokens that save anything were found in them: larger sizes are extrapolated.
    `growth` is the share by which a changed pre-tokenizer makes the text longer before any token is
    added.
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
class Heldout:
    """Held-out text in groups: each entry is a group, a unit in it (its index) and how often."""

    units: list[str]
    unit_by_entry: npt.NDArray[np.int64]
    group_by_entry: npt.NDArray[np.int64]
    count_by_entry: npt.NDArray[np.int64]
    groups: int
    bytes: int

    def tokens(self, length_by_unit: npt.NDArray[np.int64]) -> Floats:
        """Return the tokens of each group, [G], from those of each unit."""
        weights = (length_by_unit[self.unit_by_entry] * self.count_by_entry).astype(np.float64)
        return np.bincount(self.group_by_entry, weights=weights, minlength=self.groups).astype(
            np.float64
        )


def predict_fertility(
    keep: Family,
    change: Family | None,
    documents: Sequence[str],
    learned_from: int,
    *,
    wanted: Sequence[str] = (),
    sizes: Sequence[int] = SIZES,
) -> list[FertilityCurve] | None:
    """Predict the curve of a family, and of a changed one, relative to the tokens of the first one.

    The changed one has a repaired pre-tokenizer. `wanted` is the text to predict for; by default a
    part of the documents is held out. `sizes` are in ascending order. Returns `None` where the text
    is too short to split.
    """
    documents = _pieces(documents)
    size = sum(len(text.encode()) for text in documents)
    if len(documents) < LEAST_DOCUMENTS or size < LEAST_BYTES:
        return None
    split = 0 if wanted else max(round(len(documents) * HELDOUT_SHARE), 2)
    heldout, train = wanted or documents[:split], documents[split:]
    base_G = None
    curves = []
    for family in (keep, change) if change else (keep,):
        held = _grouped(family, heldout, groups=1 if wanted else GROUPS)
        curve, base_G = _curve(family, train, held, base_G, learned_from, sizes=sizes)
        curves.append(curve)
    return curves


def _pieces(documents: Sequence[str]) -> Sequence[str]:
    """Return the documents, or their lines where there are few: a split needs parts."""
    if len(documents) >= 2 * LEAST_DOCUMENTS:
        return documents
    return list(
        dict.fromkeys(line for text in documents for line in text.splitlines() if line.strip())
    )


def _curve(
    family: Family,
    train: Sequence[str],
    held: Heldout,
    base_G: Floats | None,
    learned_from: int,
    *,
    sizes: Sequence[int],
) -> tuple[FertilityCurve, Floats]:
    """Learn from all and from half of the text, and extrapolate."""
    half, other = family.units(train[::2]), family.units(train[1::2])
    half_KG, found_half = _learn(family, half, held, sizes)
    full_KG, found = _learn(family, half + other, held, sizes)
    base_G = full_KG[0] if base_G is None else base_G
    train_bytes = sum(len(text.encode()) for text in train)
    doublings = max(math.log2(max(learned_from, 1) / train_bytes), 0.0)
    floor_G = held.tokens(np.ones(len(held.units), dtype=np.int64))
    share_K, low_K, high_K = extrapolate(
        base_G,
        half_KG[1:],
        full_KG[1:],
        floor_G,
        doublings=doublings,
        found=(found_half, found),
        sizes=sizes,
    )
    points = tuple(FertilityPoint(*row) for row in zip(sizes, share_K, low_K, high_K, strict=True))
    growth = float(full_KG[0].sum() / base_G.sum()) - 1 if base_G.sum() else 0.0
    return FertilityCurve(
        points, max(learned_from, train_bytes), train_bytes, held.bytes, found, growth
    ), base_G


def _grouped(family: Family, documents: Sequence[str], groups: int = GROUPS) -> Heldout:
    groups = min(groups, len(documents))
    index: dict[str, int] = {}
    entries = [
        (index.setdefault(unit, len(index)), group, count)
        for group in range(groups)
        for unit, count in family.units(documents[group::groups]).items()
    ]
    unit_E, group_E, count_E = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    return Heldout(
        list(index), unit_E, group_E, count_E, groups, sum(len(text.encode()) for text in documents)
    )


def _learn(
    family: Family, counts: Counter[str], held: Heldout, sizes: Sequence[int] = SIZES
) -> tuple[Floats, int]:
    """Return the tokens of each group with 0 and `sizes` tokens added, and how many were found."""
    if not isinstance(family, Unigram):
        return _by_learner(family, counts, held, sizes)
    surfaces = ContinuedBPE().select(SelectionRequest(family, counts, sizes[-1])).surfaces
    return _by_backend(family, surfaces, held, sizes), len(surfaces)


def _by_learner(
    family: Family, counts: Counter[str], held: Heldout, sizes: Sequence[int]
) -> tuple[Floats, int]:
    """Take the segmentation from the learner: in BPE families it is the tokenizer's."""
    together = Counter(counts)
    for unit in held.units:
        together.setdefault(unit, 0)
    settings = ContinuedBPE()
    learner = BPELearner(
        cut_words(family, together),
        cut_alone=cut_by_base(family),
        minimum=settings.min_saving,
        step_cost=settings.step_cost,
        allowed=lambda surface: len(surface) <= settings.max_token_bytes and family.allows(surface),
    )
    as_in_cut_words = sorted(together, key=lambda unit: (-together[unit], unit))
    order = {unit: i for i, unit in enumerate(as_in_cut_words)}
    place = np.array([order[unit] for unit in held.units], dtype=np.int64)
    rows, done = [held.tokens(_lengths(learner)[place])], 0
    for size in sizes:
        for _ in learner.run(size - done):
            pass
        done = size
        rows.append(held.tokens(_lengths(learner)[place]))
    return np.array(rows), len(learner.learned.surfaces)


def _lengths(learner: BPELearner) -> npt.NDArray[np.int64]:
    """Return the current tokens of each word; a character without a piece costs its bytes."""
    words, symbols = learner.words, learner.index.symbol
    cost = np.ones(len(learner.surfaces), dtype=np.int64)
    cost[words.virtual : words.virtual + len(words.costs)] = words.costs
    ends = np.concatenate([[0], np.cumsum(np.where(symbols >= 0, cost[symbols], 0))])
    return np.asarray(ends[words.starts[1:]] - ends[words.starts[:-1]])


def _by_backend(
    family: Family, surfaces: Sequence[bytes], held: Heldout, sizes: Sequence[int]
) -> Floats:
    """Extend the family at some of `sizes` and segment: for families without merges."""
    targets = sorted({*TARGETS, *(size for size in sizes if size not in SIZES)})
    families = [family, *(type(family)(family.with_tokens(surfaces[:size])) for size in targets)]
    rows_TG = np.array(
        [
            held.tokens(np.array([len(ids) for ids in of.segment(held.units)], dtype=np.int64))
            for of in families
        ]
    )
    known, wanted = (np.log1p(np.array([0, *each])) for each in (targets, sizes))
    return np.stack([np.interp(wanted, known, tokens_T) for tokens_T in rows_TG.T], axis=1)


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
        where = np.log1p(min(max(added, 0), self.sizes[-1]) / self._scale)
        known = np.log1p(np.array(self.sizes) / self._scale)
        found = [
            float(_monotone(known, np.log(each), where))
            for each in (self.values, self.low, self.high)
        ]
        value, low, high = (float(np.exp(one)) for one in found)
        return round(value, 12), round(low, 12), round(high, 12)

    @property
    def _scale(self) -> float:
        return self.sizes[1] / 2


def _monotone(known: object, values: object, where: float) -> float:
    """Interpolate by monotone cubic pieces (Fritsch and Carlson 1980)."""
    from scipy.interpolate import PchipInterpolator

    return float(PchipInterpolator(known, values)(where))


def tokens_per_byte(now: float, curve: FertilityCurve) -> TokensPerByte:
    """Return the curve in tokens per byte; `now` are those without added tokens."""
    points = curve.points
    return TokensPerByte(
        (0, *(point.added for point in points)),
        (now, *(now * point.share for point in points)),
        (now, *(now * point.low for point in points)),
        (now, *(now * point.high for point in points)),
    )
