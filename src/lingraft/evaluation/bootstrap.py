"""Bootstrap percentile intervals of ratios of sums over documents.

A measure is a ratio of two sums over documents, or the difference between two such ratios. The unit
of resampling is the document, because tokens within a document are not independent. The draws
depend on the seed and the number of documents alone, so two models that were scored on the same
documents share them, and the interval of their difference is paired. Suffixes: N documents, B
resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lingraft.evaluation.config import BootstrapSettings
from lingraft.measurement import CHANGE, Measurement

Floats: TypeAlias = npt.NDArray[np.float64]
BLOCK_CELLS = 4_000_000
"""Document counts in memory at a time: 32 MB in float64."""


def ratio_interval(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, settings: BootstrapSettings
) -> tuple[float, float] | None:
    """Return the interval of sum(numerators) / sum(denominators); `None` below two documents.

    >>> ratio_interval([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], BootstrapSettings())
    (2.0, 2.0)
    """
    return percentiles(resampled_ratios(numerators, denominators, settings), settings)


def difference_interval(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    settings: BootstrapSettings,
) -> tuple[float, float] | None:
    """Return the interval of ratio `first` minus ratio `second`, paired over documents."""
    differences = resampled_ratios(*first, settings) - resampled_ratios(*second, settings)
    return percentiles(differences, settings)


def resampled_ratios(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, settings: BootstrapSettings
) -> Floats:
    """Return the ratio of sums for each resample, [B]; empty for fewer than two documents."""
    top_N = np.asarray(numerators, dtype=np.float64)
    bottom_N = np.asarray(denominators, dtype=np.float64)
    if len(top_N) < 2:
        return np.empty(0)
    ratios = []
    for weights_BN in _draws(len(top_N), settings):
        bottom_B = weights_BN @ bottom_N
        # A resample can consist of documents with a denominator of 0: it has no ratio.
        undefined_B = np.full(len(bottom_B), np.nan)
        ratios.append(np.divide(weights_BN @ top_N, bottom_B, out=undefined_B, where=bottom_B != 0))
    return np.concatenate(ratios)


def _draws(documents: int, settings: BootstrapSettings) -> Iterator[Floats]:
    """Yield how often each resample draws each document, in blocks of resamples, [B, N]."""
    random = np.random.default_rng(settings.seed)
    block = max(1, BLOCK_CELLS // documents)
    for begin in range(0, settings.resamples, block):
        count = min(block, settings.resamples - begin)
        drawn = random.integers(documents, size=(count, documents))
        # One `bincount` counts all resamples: resample b uses the numbers from b * documents on.
        cells = (drawn + documents * np.arange(count)[:, None]).ravel()
        counts = np.bincount(cells, minlength=count * documents)
        yield counts.reshape(count, documents).astype(np.float64)


def percentiles(ratios_B: Floats, settings: BootstrapSettings) -> tuple[float, float] | None:
    """Return the interval between the percentiles; resamples without a ratio do not count.

    Returns `None` if none has one.
    """
    ratios_B = ratios_B[~np.isnan(ratios_B)]
    if not len(ratios_B):
        return None
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(ratios_B, [tail, 1 - tail])
    return float(low), float(high)


def measure_ratio(
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
) -> list[Measurement]:
    """Measure sum(numerators) / sum(denominators) over documents.

    The list is empty if the sum of the denominators is 0.
    """
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.asarray(denominators, dtype=np.float64)
    if not bottom.sum():
        return []
    interval = ratio_interval(top, bottom, bootstrap)
    low, high = interval or (None, None)
    measurement = Measurement(
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
    return [measurement]


def measure_difference(
    metric: str,
    unit: str,
    ratio: tuple[npt.ArrayLike, npt.ArrayLike],
    reference: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    subject: str,
    first: str,
    language: str,
    bootstrap: BootstrapSettings,
    per: str = "document",
    split: str = "heldout",
) -> list[Measurement]:
    """Measure a ratio minus that of the reference, the model named `first`, paired over documents.

    `ratio` and `reference` are pairs (numerators, denominators). The list is empty if a ratio is
    undefined.
    """
    top, bottom = np.asarray(ratio[0], np.float64), np.asarray(ratio[1], np.float64)
    other_top = np.asarray(reference[0], np.float64)
    other_bottom = np.asarray(reference[1], np.float64)
    if not bottom.sum() or not other_bottom.sum():
        return []
    interval = difference_interval((top, bottom), (other_top, other_bottom), bootstrap)
    low, high = interval or (None, None)
    value = float(top.sum() / bottom.sum() - other_top.sum() / other_bottom.sum())
    measurement = Measurement(
        metric + CHANGE,
        subject,
        value,
        unit,
        language,
        split,
        n=len(top),
        per=per,
        low=low,
        high=high,
        confidence=bootstrap.confidence if interval else None,
        note=f"minus {first}, paired over {per}s",
    )
    return [measurement]


def measure_ratios(
    metric: str,
    unit: str,
    ratios: Mapping[str, tuple[Floats, Floats]],
    *,
    language: str,
    bootstrap: BootstrapSettings,
    per: str = "document",
    split: str = "heldout",
    note: str = "",
) -> Iterator[Measurement]:
    """Yield a ratio (numerators, denominators) of each model, and its change from the first model.

    Documents whose denominator is 0 in a model are left out. With fewer than two, nothing is
    measured.
    """
    kept_N = np.logical_and.reduce([bottom_N > 0 for _, bottom_N in ratios.values()])
    if kept_N.sum() < 2:
        return
    first = next(iter(ratios))
    common: dict[str, Any] = {
        "language": language,
        "bootstrap": bootstrap,
        "per": per,
        "split": split,
    }
    reference = ratios[first][0][kept_N], ratios[first][1][kept_N]
    for subject, (top_N, bottom_N) in ratios.items():
        ratio = top_N[kept_N], bottom_N[kept_N]
        yield from measure_ratio(metric, unit, *ratio, subject=subject, note=note, **common)
        if subject != first:
            yield from measure_difference(
                metric, unit, ratio, reference, subject=subject, first=first, **common
            )
