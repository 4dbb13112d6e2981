"""Measurement rows of ratios over documents."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lingraft.intrinsic.intervals import ratio_interval
from lingraft.intrinsic.settings import BootstrapSettings
from lingraft.measurement import Measurement


def ratio_row(metric: str, unit: str, numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, subject: str,
              language: str, bootstrap: BootstrapSettings, per: str = "document", version: int = 1,
              note: str = "") -> Measurement | None:
    """Return the row of sum(numerators) / sum(denominators) over documents; `None` where the text has none of these."""
    top, bottom = (np.asarray(values, dtype=np.float64) for values in (numerators, denominators))
    if not bottom.sum():
        return None
    interval = ratio_interval(top, bottom, bootstrap)
    low, high = interval or (None, None)
    return Measurement(metric, subject, float(top.sum() / bottom.sum()), unit, language, n=len(top), per=per, low=low,
                       high=high, confidence=bootstrap.confidence if interval else None, version=version, note=note)
