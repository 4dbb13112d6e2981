"""Rows of measurements from what lm-eval logged of each document, with intervals over documents.

How task scores change from one model to another, paired over the documents that both were asked.

A mean of scores changes by the mean of the differences. Of corpus scores (spBLEU, chrF++) both are computed again on
the same draws of documents, from what sacrebleu counts in each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean

from lingraft.evaluation.bootstrap import difference_interval, ratio_interval
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.tasks.config import TaskSettings
from lingraft.evaluation.tasks.task_catalogue import find
from lingraft.evaluation.tasks.task_metrics import RULE, translation_metric
from lingraft.measurement import Measurement

LABELS = {"acc_bytes": "accuracy", "exact_match": "accuracy", "f1": "word F1"}
BOOTSTRAP = BootstrapSettings()
FEW_DRAWS = 100
"""Resamples of an aggregate of lm-eval's, as many as lm-eval itself draws for slow ones."""
PERFECT = 100.0
"""sacrebleu's own is 100.00000000000004."""


def rows_of(
    name: str,
    task: Any,
    samples: Sequence[Mapping[str, Any]],
    settings: TaskSettings,
    subject: str,
    *,
    seen: tuple[int, int, int] | None,
    incidents: Mapping[str, int],
) -> list[Measurement]:
    """Return the rows of one task: one for each of its metrics, and one for the documents seen in training."""
    own = find(name)
    family, language = own.family if own else name, language_of(name)
    version = _version(task)
    requests = sum(len(sample["arguments"]) for sample in samples)
    note = "; ".join(
        [
            f"{task.get_config('num_fewshot')} shots",
            f"task version {task.VERSION}",
            *_facts(own, samples, seen, settings),
            *(f"{count} of {requests} {what}" for what, count in incidents.items()),
        ]
    )
    common: dict[str, Any] = {
        "subject": subject,
        "language": language,
        "split": "test",
        "version": version,
    }
    rows = []
    for filtered in dict.fromkeys(sample["filter"] for sample in samples):
        chosen = [sample for sample in samples if sample["filter"] == filtered]
        for metric in dict.fromkeys(metric for sample in chosen for metric in sample["metrics"]):
            values = [sample[metric] for sample in chosen if metric in sample]
            row = _row(
                label_of(name, metric, filtered),
                metric,
                values,
                task.aggregation().get(metric, mean),
                note=note,
                common=common,
            )
            rows.extend([row] if row else [])
    if seen is not None:
        rows.append(
            Measurement(
                f"{family} documents seen in training",
                value=seen[0],
                unit="documents",
                n=seen[1] + seen[2],
                note=f"{RULE}; {seen[2]} too short to be looked for",
                **common,
            )
        )
    return rows


def label_of(name: str, metric: str, filtered: str) -> str:
    """Return what a metric of a task is called in rows."""
    own = find(name)
    suffix = "" if filtered in {"none", "remove_whitespace"} else f" ({filtered})"
    return (
        f"{own.family} {LABELS.get(metric, metric)}{suffix}" if own else f"{name} {metric}{suffix}"
    )


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


def _facts(
    own: Any,
    samples: Sequence[Mapping[str, Any]],
    seen: tuple[int, int, int] | None,
    settings: TaskSettings,
) -> list[str]:
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


def _row(
    label: str,
    metric: str,
    values: Sequence[Any],
    aggregate: Callable[[Sequence[Any]], Any],
    *,
    note: str,
    common: Mapping[str, Any],
) -> Measurement | None:
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
        interval = (
            wilson(numbers) if share else ratio_interval(numbers, np.ones(len(numbers)), BOOTSTRAP)
        )
    else:
        whole = aggregate(values)
        if not isinstance(whole, int | float | np.number):
            return None
        unit, value, interval = "", float(whole), _resampled(values, aggregate)
    low, high = interval or (None, None)
    return Measurement(
        label,
        value=value,
        unit=unit,
        n=len(values),
        low=low,
        high=high,
        note=note,
        confidence=BOOTSTRAP.confidence if interval else None,
        **common,
    )


def _resampled(
    values: Sequence[Any], aggregate: Callable[[Sequence[Any]], Any]
) -> tuple[float, float] | None:
    """Return the interval of any aggregate, from documents drawn again."""
    if len(values) < 2:
        return None
    random = np.random.default_rng(BOOTSTRAP.seed)
    draws = [
        aggregate([values[i] for i in random.integers(len(values), size=len(values))])
        for _ in range(FEW_DRAWS)
    ]
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
    middle, reach = (
        share + z * z / (2 * n),
        z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5,
    )
    low, high = (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)
    return low if share > 0 else 0.0, high if share < 1 else 1.0


def _corpus_score(
    name: str, pairs: Sequence[tuple[str, str]]
) -> tuple[float, tuple[float, float] | None, str]:
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


CORPUS_METRICS = ("spBLEU", "chrF++")
DRAWS = 200
Scores = dict[tuple[str, str], dict[str, Any]]


def task_changes(
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    samples_before: Path,
    samples_after: Path,
) -> list[Measurement]:
    """Return a change row for each score in `after` that `before` has too: difference, and its paired interval."""
    reference = {(row.metric, row.language): row for row in before}
    one, two = _scores(samples_before), _scores(samples_after)
    rows = []
    for row in after:
        first = reference.get((row.metric, row.language))
        if first is None or row.unit not in {"share", "points"}:
            continue
        low, high, paired = _interval(
            one.get((row.metric, row.language), {}), two.get((row.metric, row.language), {})
        )
        rows.append(
            replace(
                row,
                metric=f"{row.metric} change",
                value=row.value - first.value,
                n=paired,
                low=low,
                high=high,
                confidence=BOOTSTRAP.confidence if low is not None else None,
                note=f"minus {first.subject}, paired over {paired} documents",
            )
        )
    return rows


def _scores(path: Path) -> Scores:
    """Return the score of each document by metric and language, documents named by task and what was asked."""
    found: Scores = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            sample = json.loads(line)
            task = sample["task"]
            for metric in sample["metrics"]:
                key = (label_of(task, metric, sample["filter"]), language_of(task))
                found.setdefault(key, {})[f"{task} {sample['doc_hash']} {sample['doc_id']}"] = (
                    metric,
                    sample[metric],
                )
    return found


def _interval(one: dict[str, Any], two: dict[str, Any]) -> tuple[float | None, float | None, int]:
    shared = [name for name in two if name in one]
    if len(shared) < 2:
        return None, None, len(shared)
    metric = one[shared[0]][0]
    first, second = ([scores[name][1] for name in shared] for scores in (one, two))
    if metric in CORPUS_METRICS:
        low, high = _corpus_interval(metric, first, second)
        return low, high, len(shared)
    ones = np.ones(len(shared))
    interval = difference_interval(
        (np.array(second, dtype=float), ones), (np.array(first, dtype=float), ones), BOOTSTRAP
    )
    return (*interval, len(shared)) if interval else (None, None, len(shared))


def _corpus_interval(
    metric: str, first: Sequence[Any], second: Sequence[Any]
) -> tuple[float, float]:
    scorer = translation_metric(metric)
    counts = [
        np.array(
            scorer._extract_corpus_statistics(  # noqa: SLF001 - the resampled parts of a corpus score
                [answer for _, answer in pairs],
                [[reference for reference, _ in pairs]],
            )
        )
        for pairs in (first, second)
    ]
    random = np.random.default_rng(BOOTSTRAP.seed)
    differences = []
    for _ in range(DRAWS):
        drawn = random.integers(len(first), size=len(first))
        before, after = (
            scorer._compute_score_from_stats(part[drawn].sum(axis=0).tolist()).score  # noqa: SLF001
            for part in counts
        )
        differences.append(after - before)
    tail = (1 - BOOTSTRAP.confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)
