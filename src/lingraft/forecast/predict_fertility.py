"""Predict how many tokens a vocabulary of added tokens saves, on text that it is not learned from.

A fifth of the sample is held out. Continued BPE learns tokens from the rest, and from half of the
rest; `heldout_tokens` counts the tokens of the held-out text. If the text to evaluate is known (a
run's held-out text), it replaces the fifth. Its documents are then not resampled, so the interval
does not cover other texts. `extrapolate` extends the results of half and all of the sample to the
amount of text from which the tokens will be learned.

Suffixes: G groups of held-out documents, K sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.forecast.extrapolate import Floats, extrapolate
from lingraft.forecast.heldout_tokens import (
    DEFAULT_METHOD,
    GROUPS,
    GroupedUnits,
    group_units,
    learn_and_count,
    text_bytes,
)
from lingraft.tokenizer.base import Family
from lingraft.vocabulary import ContinuedBPE
from lingraft.vocabulary.auto_size import SIZES

HELDOUT_SHARE = 0.2
MIN_DOCUMENTS = 20
MIN_BYTES = 20_000


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
        grouped = group_units(candidate, heldout, groups=1 if evaluated else GROUPS)
        curve, base_G = _curve(
            candidate, train, grouped, base_G, learned_from, sizes=sizes, method=method
        )
        curves.append(curve)
    return curves


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
    half_KG, found_half = learn_and_count(family, half, heldout, sizes, method)
    full_KG, found = learn_and_count(family, half + other_half, heldout, sizes, method)
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
