"""Predict which of several bases ends lower, and by how much, from one number of each.

The text, and how many bytes its letters take, decide bits per byte more than the base does. So only
the ratio of two bases on one text is predicted:

    log(y_b / y_c) = w log(x_b / x_c)

y are bits per byte after training, x is a number that is known of each base (`FACTS`), and w is a
ridge regression over runs of other bases on the same texts (`base_runs.json`). The interval is
Student's t with the error on bases that were left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

import numpy as np

from lingraft.forecast.extrapolate import CONFIDENCE

RUNS = "base_runs.json"
RIDGE = 1.0
"""Weight of the penalty on w, with the logarithms of x scaled to a variance of 1."""

FACTS = {
    "target_bits": "bits per byte in the language, before",
    "base_bits": "bits per byte in the base language, before",
    "parameters": "size",
    "premium": "tokens per byte compared with the base language",
    "words_split": "share of the words that are several tokens",
    "tokens_per_parameter": "tokens read per parameter",
    "spliced_bits": "bits per byte with the new tokens, before training",
    "probe_fall": "fall of bits per byte in 1% of the training",
    "quarter_bits": "bits per byte after a quarter of the training",
}
"""The numbers that may be known of a base, in words; the last two need a part of the training."""

USED = "target_bits"
"""What `lingraft advise` predicts from: of the facts before training, it orders the measured bases
best (benchmarks/results.md). It was chosen before 1M-20, 1M-80, 5M-5 and SmolLM2-135M were run."""

TEXT_BYTES, ADDED_TOKENS = 100_000, 1_000
"""The text that each run reads, and the tokens that are added (`study-bases.yaml`)."""

NEAR, MIN_NEAR = 1.5, 3
"""A value is outside the measured ones unless so many bases have one within this factor, on a text.

Up to 3 bits per byte there are two such bases at most; with a factor of 2, there are four at 3.
"""


@dataclass(frozen=True)
class BaseRun:
    """A base that was adapted to a text: what is known of it, and its bits per byte after."""

    base: str
    text: str
    facts: Mapping[str, float]
    end: float


@dataclass(frozen=True)
class BaseComparison:
    """A fitted regression.

    Attributes:
        fact: the name of x.
        weight: w.
        spread: the standard deviation of the logarithm of a predicted ratio.
        bases: how many bases it was fitted on.
    """

    fact: str
    weight: float
    spread: float
    bases: int

    @classmethod
    def fit(cls, runs: Sequence[BaseRun], fact: str = USED) -> BaseComparison:
        """Fit w; `runs` need three bases on the same texts."""
        errors = []
        for base in _bases(runs):
            weight = _weight([run for run in runs if run.base != base], fact)
            for run, other in _pairs_with(base, runs):
                difference = math.log(run.facts[fact] / other.facts[fact])
                errors.append(weight * difference - math.log(run.end / other.end))
        spread = math.sqrt(fmean(error**2 for error in errors))
        return cls(fact, _weight(runs, fact), spread, len(_bases(runs)))

    def ratio(self, first: float, second: float) -> tuple[float, float, float]:
        """Return the end of a base divided by that of another, with its 95% interval.

        `first` is x of the base that is divided by, `second` that of the other one.
        """
        from scipy.stats import t

        difference = self.weight * math.log(second / first)
        half = self.spread * float(t.ppf(0.5 + CONFIDENCE / 2, self.bases - 1))
        return math.exp(difference), math.exp(difference - half), math.exp(difference + half)


@dataclass(frozen=True)
class Validation:
    """How well a fact compares each base with the others, with w fitted without it.

    Attributes:
        fact: the name of x.
        bases, texts: how many.
        error: the mean relative error of a predicted ratio.
        coverage: the share of ratios within their 95% interval.
        tau: Kendall's tau of the predicted and the measured order, mean over texts; 0 for a text
            on which all bases are predicted to end equal.
        regret: bits per byte that the predicted best base ends above the best one, mean over texts
            and over bases that are predicted to end equal.
    """

    fact: str
    bases: int
    texts: int
    error: float
    coverage: float
    tau: float
    regret: float


def validate(runs: Sequence[BaseRun], fact: str = USED) -> Validation:
    """Leave each base out in turn and predict it; `runs` need four bases on the same texts."""
    errors, inside = [], []
    scores: dict[tuple[str, str], float] = {}
    for base in _bases(runs):
        fitted = BaseComparison.fit([run for run in runs if run.base != base], fact)
        compared: dict[tuple[str, str], list[float]] = {}
        for run, other in _pairs_with(base, runs):
            value, low, high = fitted.ratio(other.facts[fact], run.facts[fact])
            true = run.end / other.end
            compared.setdefault((run.text, base), []).append(math.log(value))
            errors.append(abs(value / true - 1))
            inside.append(low <= true <= high)
        scores |= {place: fmean(ratios) for place, ratios in compared.items()}
    taus, regrets = [], []
    for text in dict.fromkeys(run.text for run in runs):
        of_text = [run for run in runs if run.text == text]
        taus.append(_tau([scores[text, run.base] for run in of_text], of_text))
        lowest = min(scores[text, run.base] for run in of_text)
        chosen = [run.end for run in of_text if scores[text, run.base] == lowest]
        regrets.append(fmean(chosen) - min(run.end for run in of_text))
    bases, texts = len(_bases(runs)), len(taus)
    return Validation(fact, bases, texts, fmean(errors), fmean(inside), fmean(taus), fmean(regrets))


def error_of_equal(runs: Sequence[BaseRun]) -> float:
    """Return the mean relative error of a ratio if all bases are predicted to end equal."""
    ratios = []
    for base in _bases(runs):
        ratios += [other.end / run.end for run, other in _pairs_with(base, runs)]
    return fmean(abs(ratio - 1) for ratio in ratios)


def is_outside(runs: Sequence[BaseRun], value: float, fact: str = USED) -> bool:
    """Return whether fewer than three bases have a value within a factor of 1.5 of this one."""
    near = {run.base for run in runs if 1 / NEAR <= run.facts[fact] / value <= NEAR}
    return len(near) < MIN_NEAR


@cache
def measured_runs() -> tuple[BaseRun, ...]:
    """Return the runs that come with lingraft, of `benchmarks/recipes/study-bases.yaml`."""
    return tuple(BaseRun(**run) for run in _shipped()["runs"])


def measured_seeds() -> int:
    """Return how often each of these runs was repeated, with other seeds."""
    return int(_shipped()["seeds"])


def _shipped() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (files("lingraft.forecast") / RUNS).read_text(encoding="utf-8")
    )
    return content


def runs_as_json(runs: Sequence[BaseRun], about: Mapping[str, Any]) -> str:
    """Return the content of `base_runs.json`; `about` says how the runs were made."""
    rows = ",\n  ".join(json.dumps(asdict(run)) for run in runs)
    return (
        json.dumps(dict(about), indent=1).removesuffix("\n}") + f',\n "runs": [\n  {rows}\n ]\n}}\n'
    )


def _weight(runs: Sequence[BaseRun], fact: str) -> float:
    """Return w: a ridge regression of what differs from the mean of all bases on the same text."""
    x = np.log([run.facts[fact] for run in runs])
    y = np.log([run.end for run in runs])
    texts = np.array([run.text for run in runs])
    for text in set(texts):
        x[texts == text] -= x[texts == text].mean()
        y[texts == text] -= y[texts == text].mean()
    scale = float(x.std()) or 1.0
    return float(x @ y / scale**2 / (x @ x / scale**2 + RIDGE))


def _bases(runs: Sequence[BaseRun]) -> list[str]:
    return list(dict.fromkeys(run.base for run in runs))


def _pairs_with(base: str, runs: Sequence[BaseRun]) -> list[tuple[BaseRun, BaseRun]]:
    """Return the runs of a base, each with the run of every other base on the same text."""
    pairs = []
    for run in runs:
        if run.base == base:
            pairs += [(run, one) for one in runs if one.text == run.text and one.base != base]
    return pairs


def _tau(scores: Sequence[float], runs: Sequence[BaseRun]) -> float:
    from scipy.stats import kendalltau

    tau = float(kendalltau(scores, [run.end for run in runs]).statistic)
    return 0.0 if math.isnan(tau) else tau
