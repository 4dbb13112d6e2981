"""Rows of measurements from what lm-eval logged of each document, with intervals over documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean

from lingraft.intrinsic.intervals import ratio_interval
from lingraft.intrinsic.settings import BootstrapSettings
from lingraft.measurement import Measurement
from lingraft.tasks.catalogue import find
from lingraft.tasks.contamination import RULE
from lingraft.tasks.scoring import translation_metric
from lingraft.tasks.settings import TaskSettings

LABELS = {"acc_bytes": "accuracy", "exact_match": "accuracy", "f1": "word F1"}
BOOTSTRAP = BootstrapSettings()
FEW_DRAWS = 100
"""Resamples of an aggregate of lm-eval's, as many as lm-eval itself draws for slow ones."""
PERFECT = 100.0
"""sacrebleu's own is 100.00000000000004."""


def rows_of(name: str, task: Any, samples: Sequence[Mapping[str, Any]], settings: TaskSettings, subject: str, *,
            seen: tuple[int, int, int] | None, incidents: Mapping[str, int]) -> list[Measurement]:
    """Return the rows of one task: one for each of its metrics, and one for the documents seen in training."""
    own = find(name)
    family, language = own.family if own else name, language_of(name)
    version = _version(task)
    requests = sum(len(sample["arguments"]) for sample in samples)
    note = "; ".join([f"{task.get_config('num_fewshot')} shots", f"task version {task.VERSION}",
                      *_facts(own, samples, seen, settings),
                      *(f"{count} of {requests} {what}" for what, count in incidents.items())])
    common: dict[str, Any] = {"subject": subject, "language": language, "split": "test", "version": version}
    rows = []
    for filtered in dict.fromkeys(sample["filter"] for sample in samples):
        chosen = [sample for sample in samples if sample["filter"] == filtered]
        for metric in dict.fromkeys(metric for sample in chosen for metric in sample["metrics"]):
            values = [sample[metric] for sample in chosen if metric in sample]
            row = _row(label_of(name, metric, filtered), metric, values, task.aggregation().get(metric, mean),
                       note=note, common=common)
            rows.extend([row] if row else [])
    if seen is not None:
        rows.append(Measurement(f"{family} documents seen in training", value=seen[0], unit="documents",
                                n=seen[1] + seen[2], note=f"{RULE}; {seen[2]} too short to be looked for", **common))
    return rows


def label_of(name: str, metric: str, filtered: str) -> str:
    """Return what a metric of a task is called in rows."""
    own = find(name)
    suffix = "" if filtered in {"none", "remove_whitespace"} else f" ({filtered})"
    return f"{own.family} {LABELS.get(metric, metric)}{suffix}" if own else f"{name} {metric}{suffix}"


def language_of(name: str) -> str:
    """Return the language of a task, "" where it is none of ours."""
    own = find(name)
    return own.language if own else ""


def _version(task: Any) -> int:
    """Return lm-eval's version as a whole number: 1.0 is 1."""
    try:
        return int(float(task.VERSION))
    except (TypeError, ValueError):
        return 0


def _facts(own: Any, samples: Sequence[Mapping[str, Any]], seen: tuple[int, int, int] | None,
           settings: TaskSettings) -> list[str]:
    """Return what a reader must know of the numbers of a task."""
    facts = []
    if own and own.score == "choice":
        answers = [len(sample["arguments"]) for sample in samples]
        facts.append(f"chance {np.mean([1 / count for count in answers]):.2f}")
    if own and own.foreign_words:
        facts.append("the prompt's own words are English")
    if seen and seen[0] and settings.contaminated == "drop":
        facts.append(f"{seen[0]} documents dropped that stand in the training text")
    return facts


def _row(label: str, metric: str, values: Sequence[Any], aggregate: Callable[[Sequence[Any]], Any], *, note: str,
         common: Mapping[str, Any]) -> Measurement | None:
    """Return the metric of all documents; `None` where it comes to no number."""
    numbers = [float(value) for value in values if isinstance(value, int | float | np.number)]
    interval: tuple[float, float] | None
    if metric in {"spBLEU", "chrF++"}:
        unit = "points"
        value, interval, signature = _corpus_score(metric, values)
        note = f"{note}; sacrebleu {signature}"
    elif len(numbers) == len(values) and aggregate is mean:
        share = all(0 <= number <= 1 for number in numbers)
        unit, value = "share" if share else "", float(np.mean(numbers))
        interval = wilson(numbers) if share else ratio_interval(numbers, np.ones(len(numbers)), BOOTSTRAP)
    else:
        whole = aggregate(values)
        if not isinstance(whole, int | float | np.number):
            return None
        unit, value, interval = "", float(whole), _resampled(values, aggregate)
    low, high = interval or (None, None)
    return Measurement(label, value=value, unit=unit, n=len(values), low=low, high=high, note=note,
                       confidence=BOOTSTRAP.confidence if interval else None, **common)


def _resampled(values: Sequence[Any], aggregate: Callable[[Sequence[Any]], Any]) -> tuple[float, float] | None:
    """Return the interval of any aggregate, from documents drawn again."""
    if len(values) < 2:
        return None
    random = np.random.default_rng(BOOTSTRAP.seed)
    draws = [aggregate([values[i] for i in random.integers(len(values), size=len(values))]) for _ in range(FEW_DRAWS)]
    return _between(draws)


def _between(draws: Sequence[float]) -> tuple[float, float]:
    tail = (1 - BOOTSTRAP.confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def wilson(points: Sequence[float]) -> tuple[float, float]:
    """Return Wilson's interval of a share; unlike resampling it stays open where every document came out the same.

    >>> [round(bound, 3) for bound in wilson([0.0] * 10)]
    [0.0, 0.278]
    """
    n, share = len(points), float(np.mean(points))
    z = NormalDist().inv_cdf((1 + BOOTSTRAP.confidence) / 2)
    middle, reach = share + z * z / (2 * n), z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
    low, high = (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)
    return low if share > 0 else 0.0, high if share < 1 else 1.0


def _corpus_score(name: str, pairs: Sequence[tuple[str, str]]) -> tuple[float, tuple[float, float] | None, str]:
    """Return the score of all (reference, answer) pairs together, its interval where there are several, and how.

    The documents are drawn again, not scored again: sacrebleu's counts for each of them are summed.
    """
    metric = translation_metric(name)
    references, answers = map(list, zip(*pairs, strict=True))
    whole = min(float(metric.corpus_score(answers, [references]).score), PERFECT)
    signature = str(metric.get_signature())
    if len(pairs) < 2:
        return whole, None, signature
    counts_NC = np.array(metric._extract_corpus_statistics(answers, [references]))  # noqa: SLF001
    random = np.random.default_rng(BOOTSTRAP.seed)
    scores = []
    for _ in range(BOOTSTRAP.resamples):
        summed_C = counts_NC[random.integers(len(pairs), size=len(pairs))].sum(axis=0)
        scores.append(metric._compute_score_from_stats(summed_C.tolist()).score)  # noqa: SLF001 - no public way to sum
    low, high = _between(scores)
    return whole, (low, min(high, PERFECT)), signature
