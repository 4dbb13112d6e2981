"""Measurement rows of ratios over documents, and of their paired differences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lingraft.intrinsic.intervals import difference_interval, ratio_interval
from lingraft.intrinsic.settings import BootstrapSettings
from lingraft.measurement import CHANGE, Measurement


def ratio_row(metric: str, unit: str, numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, subject: str,
              language: str, bootstrap: BootstrapSettings, per: str = "document", split: str = "heldout",
              version: int = 1, note: str = "") -> Measurement | None:
    """Return the row of sum(numerators) / sum(denominators) over documents; `None` where the text has none of these."""
    top, bottom = (np.asarray(values, dtype=np.float64) for values in (numerators, denominators))
    if not bottom.sum():
        return None
    interval = ratio_interval(top, bottom, bootstrap)
    low, high = interval or (None, None)
    return Measurement(metric, subject, float(top.sum() / bottom.sum()), unit, language, split, n=len(top), per=per,
                       low=low, high=high, confidence=bootstrap.confidence if interval else None, version=version,
                       note=note)


def difference_row(metric: str, unit: str, one: tuple[npt.ArrayLike, npt.ArrayLike],
                   reference: tuple[npt.ArrayLike, npt.ArrayLike], *, subject: str, first: str, language: str,
                   bootstrap: BootstrapSettings) -> Measurement | None:
    """Return the paired difference of a ratio to that of the model named `first`, on the same documents."""
    (top, bottom), (other_top, other_bottom) = (tuple(np.asarray(values, dtype=np.float64) for values in pair)
                                                for pair in (one, reference))
    if not bottom.sum() or not other_bottom.sum():
        return None
    interval = difference_interval((top, bottom), (other_top, other_bottom), bootstrap)
    low, high = interval or (None, None)
    value = float(top.sum() / bottom.sum() - other_top.sum() / other_bottom.sum())
    return Measurement(metric + CHANGE, subject, value, unit, language, n=len(top), low=low, high=high,
                       confidence=bootstrap.confidence if interval else None,
                       note=f"minus {first}, paired over documents")
