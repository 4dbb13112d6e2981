"""How evenly a text uses the tokens of a vocabulary.

The Rényi efficiency (Zouhar et al. 2023, arXiv 2306.16842) is the Rényi entropy of the tokens of a
text, divided by that of a uniform distribution over the tokens that occur. With p(t) the share of
the text's tokens that are t, and V the set of those that occur:

    H(p) = log(sum over t of p(t)^alpha) / (1 - alpha)
    efficiency = H(p) / log |V|

With alpha = 2.5, the efficiency of a tokenizer correlated with the BLEU of models trained on it
(0.78). It is no proof of quality: Cognetta et al. 2024 (arXiv 2402.14614) change tokenizers so that
the efficiency rises and translation gets worse. So no change of it is called better or worse.
"""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt

from lingraft.evaluation.text_scores import TextScores
from lingraft.measurement import Measurement

EFFICIENCY = "Renyi efficiency"
ALPHA = 2.5


def renyi_efficiency(counts: npt.ArrayLike, alpha: float = ALPHA) -> float | None:
    """Return the Rényi efficiency of a text from how often each token occurs in it.

    Counts of 0 are left out. Returns `None` for fewer than two different tokens. `alpha` must not
    be 1.

    >>> renyi_efficiency([5, 5, 5, 0])
    1.0
    >>> round(renyi_efficiency([3, 2, 1, 1]), 4)
    0.8265
    """
    occurring = np.asarray(counts, dtype=np.float64)
    occurring = occurring[occurring > 0]
    if len(occurring) < 2:
        return None
    shares = occurring / occurring.sum()
    entropy = log(float((shares**alpha).sum())) / (1 - alpha)
    return entropy / log(len(shares))


def measure_efficiency(scores: TextScores, language: str, subject: str) -> list[Measurement]:
    """Measure the Rényi efficiency of the tokens of a text."""
    efficiency = renyi_efficiency(np.bincount(scores.ids))
    if efficiency is None:
        return []
    note = f"alpha {ALPHA}, over the tokens that occur"
    n = len(scores.ids)
    return [
        Measurement(EFFICIENCY, subject, efficiency, "share", language, n=n, per="token", note=note)
    ]
