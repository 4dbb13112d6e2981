"""Rank bases by a measure, and say which of them are better than others.

A base is called better than another only if the intervals separate them; each pair has its share of
the 5% (Bonferroni), as in a study. A base whose tokenizer loses text is not compared: its bits per
byte are of another text. Nor is the predicted end of a base that predicts the text worse than
random bytes: such predictions often miss.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist

from lingraft.advice.choose import ProbedEnd
from lingraft.advice.recommend import UNREADABLE
from lingraft.evaluation import BootstrapSettings, DocumentScores
from lingraft.evaluation.bootstrap import resampled_ratios
from lingraft.forecast.extrapolate import CONFIDENCE
from lingraft.measurement import MIN_DOCUMENTS

RANDOM_BITS = 8.0
"""Bits per byte of text whose bytes are all equally likely.

Of 16 ends predicted for a base above it, 13 were too low, by up to 21%, and of 16 for a base below
it one, by 0.1% (benchmarks/results.md).
"""


@dataclass(frozen=True)
class BaseScore:
    """A base to be ranked: its scores on the text, and the predicted end if it was probed.

    `unknown` is the share of the tokens of the text that stand for lost characters.
    """

    name: str
    now: DocumentScores | None
    end: ProbedEnd | None
    unknown: float = 0.0

    @property
    def loses_text(self) -> bool:
        """Whether its scores are of another text, so that they are not compared."""
        return self.unknown > UNREADABLE

    @property
    def is_worse_than_random(self) -> bool:
        """Whether it predicts the text worse than random bytes; its end is uncertain then."""
        return self.now is not None and self.now.bits_per_byte > RANDOM_BITS


@dataclass(frozen=True)
class BaseRanking:
    """The names of bases, best first by `measure`.

    `carried` are the pairs (better, worse) that the intervals separate. With fewer than
    `MIN_DOCUMENTS` documents there are none, and `few_documents` is their number. `losing_text` are
    the bases whose tokenizers lose text, with the share of unknown tokens: they are last in `order`
    and in no pair.
    """

    measure: str
    order: tuple[str, ...]
    carried: tuple[tuple[str, str], ...]
    few_documents: int | None = None
    losing_text: Mapping[str, float] = field(default_factory=dict)


def rank_bases(scored: Sequence[BaseScore]) -> BaseRanking:
    """Rank bases by the predicted end where all were probed, otherwise by bits per byte now."""
    ends: dict[str, ProbedEnd] = {}
    scores: dict[str, DocumentScores] = {}
    lossy = {base.name: base.unknown for base in scored if base.loses_text}
    for base in scored:
        if base.end:
            ends[base.name] = base.end
        if base.now:
            scores[base.name] = base.now
    # A predicted end cannot be compared with a value of now.
    if all(base.end for base in scored):
        return _rank_by_end(
            ends, lossy, {base.name for base in scored if base.is_worse_than_random}
        )
    return _rank_by_now(scores, lossy)


def _rank_by_end(
    ends: Mapping[str, ProbedEnd], lossy: Mapping[str, float], uncertain: Collection[str]
) -> BaseRanking:
    forecasts = {name: end.forecast for name, end in ends.items()}

    def is_lower(first: str, second: str, confidence: float) -> bool:
        """Say whether the intervals are apart.

        A forecast has its 95% interval alone. The logarithm is taken as normal at each side of the
        value, so its distance to a bound grows with the quantile of the normal distribution.
        """
        if first in uncertain or second in uncertain:
            return False
        better, worse = forecasts[first], forecasts[second]
        normal = NormalDist()
        wider = normal.inv_cdf(0.5 + confidence / 2) / normal.inv_cdf(0.5 + CONFIDENCE / 2)
        high: float = better.value * (better.high / better.value) ** wider
        low: float = worse.value * (worse.low / worse.value) ** wider
        return high < low

    values = {name: forecast.value for name, forecast in forecasts.items()}
    documents = min(end.documents for end in ends.values())
    return _ranking("bits per byte after training, predicted", values, is_lower, documents, lossy)


def _rank_by_now(scores: Mapping[str, DocumentScores], lossy: Mapping[str, float]) -> BaseRanking:
    from scipy.stats import t

    values, ratios = {}, {}
    for name, scored in scores.items():
        values[name] = scored.bits_per_byte
        ratios[name] = resampled_ratios(scored.bits, scored.bytes, BootstrapSettings())
    documents = min(len(scored.bytes) for scored in scores.values())

    def is_lower(first: str, second: str, confidence: float) -> bool:
        """Say whether the interval of the difference, paired over documents, is below 0.

        It is Student's t with the bootstrap's standard error. The percentiles of the bootstrap are
        too narrow for few documents: of six equal bases and 20 documents, they separated some pair
        in 14% of 200 draws at the level of 5%, this interval in 7% of 600 (60 documents: 7%, 4%).
        """
        error = (ratios[first] - ratios[second]).std()
        half = float(error * t.ppf(0.5 + confidence / 2, documents - 1))
        return values[first] + half < values[second]

    return _ranking("bits per byte of the base, now", values, is_lower, documents, lossy)


def _ranking(
    measure: str,
    values: Mapping[str, float],
    is_lower: Callable[[str, str, float], bool],
    documents: int,
    lossy: Mapping[str, float],
) -> BaseRanking:
    """Return a ranking by `values`, without pairs if it is by fewer than `MIN_DOCUMENTS` documents.

    `is_lower` says whether the first of two bases is lower at a level of confidence.
    """
    order = sorted(values, key=lambda name: (name in lossy, values[name]))
    few = documents if documents < MIN_DOCUMENTS else None
    compared = [name for name in order if name not in lossy and few is None]
    pairs = list(combinations(compared, 2))
    carried = []
    for first, second in pairs:
        if is_lower(first, second, 1 - (1 - CONFIDENCE) / len(pairs)):
            carried.append((first, second))
    losing = {name: lossy[name] for name in order if name in lossy}
    return BaseRanking(measure, tuple(order), tuple(carried), few, losing)
