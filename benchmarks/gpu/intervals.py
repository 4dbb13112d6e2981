"""Means over seeds with their intervals, by Student's t at 95%."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.special import stdtrit  # scipy.stats takes seconds to import


def interval(values: Sequence[float]) -> str:
    """Return a mean and the half width of its interval; the mean alone where there is one seed.

    >>> interval([1.0]), interval([1.0, 1.2, 1.1])
    ('1.000', '1.100 ± 0.248')
    """
    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.3f} ± {half:.3f}"
