"""Bootstrap percentile intervals over documents, for ratios of sums and for differences between two such ratios.

A document is the unit that is drawn again: tokens within one are not independent. The draws depend on the seed and the
number of documents alone, so two models that were scored on the same documents share them, and the interval of their
difference is a paired one. Suffixes: N documents, B resamples.

Measurement rows of ratios over documents, and of their paired differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lingraft.evaluation.config import BootstrapSettings
from lingraft.measurement import CHANGE, Measurement

Floats: TypeAlias = npt.NDArray[np.float64]
BLOCK_CELLS = 4_000_000


def ratio_interval(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, settings: BootstrapSettings
) -> tuple[float, float] | None:
    """Return the interval of sum(numerators) / sum(denominators); `None` for fewer than two documents.

    >>> ratio_interval([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], BootstrapSettings())
    (2.0, 2.0)
    """
    return _percentiles(resampled_ratios(numerators, denominators, settings), settings)


def difference_interval(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    settings: BootstrapSettings,
) -> tuple[float, float] | None:
    """Return the interval of the ratio `first` minus the ratio `second`, on the same draws of the same documents."""
    return _percentiles(
        resampled_ratios(*first, settings) - resampled_ratios(*second, settings), settings
    )


def resampled_ratios(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, settings: BootstrapSettings
) -> Floats:
    """Return the ratio of sums for each resample, [B]; empty for fewer than two documents."""
    top_N, bottom_N = (
        np.asarray(values, dtype=np.float64) for values in (numerators, denominators)
    )
    if len(top_N) < 2:
        return np.empty(0)
    ratios = []
    for weights_BN in _draws(len(top_N), settings):
        bottom_B = weights_BN @ bottom_N
        ratios.append(
            np.divide(
                weights_BN @ top_N,
                bottom_B,
                out=np.full(len(bottom_B), np.nan),
                where=bottom_B != 0,
            )
        )
    return np.concatenate(ratios)


def _draws(documents: int, settings: BootstrapSettings) -> Iterator[Floats]:
    """Yield how often each document is drawn, in blocks of resamples that stay under 32 MB."""
    random = np.random.default_rng(settings.seed)
    rows = max(1, BLOCK_CELLS // documents)
    for begin in range(0, settings.resamples, rows):
        count = min(rows, settings.resamples - begin)
        drawn = (
            random.integers(documents, size=(count, documents))
            + documents * np.arange(count)[:, None]
        )
        yield (
            np.bincount(drawn.ravel(), minlength=count * documents)
            .reshape(count, documents)
            .astype(np.float64)
        )


def _percentiles(ratios_B: Floats, settings: BootstrapSettings) -> tuple[float, float] | None:
    ratios_B = ratios_B[~np.isnan(ratios_B)]
    if not len(ratios_B):
        return None
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(ratios_B, [tail, 1 - tail])
    return float(low), float(high)


def ratio_row(
    metric: str,
    unit: str,
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    subject: str,
    language: str,
    bootstrap: BootstrapSettings,
    per: str = "document",
    split: str = "heldout",
    version: int = 1,
    note: str = "",
) -> Measurement | None:
    """Return the row of sum(numerators) / sum(denominators) over documents; `None` where the text has none of these."""
    top, bottom = (np.asarray(values, dtype=np.float64) for values in (numerators, denominators))
    if not bottom.sum():
        return None
    interval = ratio_interval(top, bottom, bootstrap)
    low, high = interval or (None, None)
    return Measurement(
        metric,
        subject,
        float(top.sum() / bottom.sum()),
        unit,
        language,
        split,
        n=len(top),
        per=per,
        low=low,
        high=high,
        confidence=bootstrap.confidence if interval else None,
        version=version,
        note=note,
    )


def difference_row(
    metric: str,
    unit: str,
    one: tuple[npt.ArrayLike, npt.ArrayLike],
    reference: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    subject: str,
    first: str,
    language: str,
    bootstrap: BootstrapSettings,
) -> Measurement | None:
    """Return the paired difference of a ratio to that of the model named `first`, on the same documents."""
    (top, bottom), (other_top, other_bottom) = (
        tuple(np.asarray(values, dtype=np.float64) for values in pair) for pair in (one, reference)
    )
    if not bottom.sum() or not other_bottom.sum():
        return None
    interval = difference_interval((top, bottom), (other_top, other_bottom), bootstrap)
    low, high = interval or (None, None)
    value = float(top.sum() / bottom.sum() - other_top.sum() / other_bottom.sum())
    return Measurement(
        metric + CHANGE,
        subject,
        value,
        unit,
        language,
        n=len(top),
        low=low,
        high=high,
        confidence=bootstrap.confidence if interval else None,
        note=f"minus {first}, paired over documents",
    )
