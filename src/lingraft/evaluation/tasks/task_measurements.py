"""Measurements of tasks from lm-eval's log of each document, with intervals over documents.

The interval depends on the metric: Wilson's for shares, bootstrap for all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean

from lingraft.corpus.contamination import rule_of
from lingraft.evaluation.bootstrap import percentiles, ratio_interval
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.tasks.config import TaskSettings
from lingraft.evaluation.tasks.task_catalogue import find_task
from lingraft.evaluation.tasks.task_metrics import translation_metric
from lingraft.measurement import Measurement

LABELS = {"acc_bytes": "accuracy", "exact_match": "accuracy", "f1": "word F1"}
"""Names of lm-eval's metrics in measurements."""
CORPUS_METRICS = ("spBLEU", "chrF++")
"""Metrics of all documents together, which are not means of scores per document."""
FEW_DRAWS = 400
"""Most resamples of aggregates other than the mean, some of which take a second each.

lm-eval draws 100 for slow ones. Then the intervals are too narrow: of 1,500 simulated samples of
200 documents, 93.2% have the true mean within their 95% interval and 95.5% within that of 99%; with
400 it is 95.3% and 97.9%, with 1,000 94.1% and 98.5%.
"""
NUMBERS = (int, float, np.number, np.bool_)
"""The types of scores; some tasks compare arrays, so that a right answer is a bool of numpy."""
PERFECT = 100.0
"""Highest corpus score: sacrebleu returns 100.00000000000004 for a perfect one."""


def measure_task(
    name: str,
    task: Any,
    samples: Sequence[Mapping[str, Any]],
    settings: TaskSettings,
    subject: str,
    *,
    bootstrap: BootstrapSettings,
    seen: tuple[int, int, int] | None,
    incidents: Mapping[str, int],
) -> list[Measurement]:
    """Return a measurement for each metric of a task, and one for documents seen in training.

    `bootstrap` has the level of all intervals, Wilson's included. `seen` holds the numbers of seen,
    searched and too short documents. `incidents` holds the number of requests that were cut or
    joined, by description.
    """
    own = find_task(name)
    requests = sum(_count_answers(samples))
    chat = is_chat(task, settings)
    # The notes make a score comparable: few-shot examples, task version, and what was cut.
    shots = f"{task.get_config('num_fewshot')} shots"
    notes = [
        shots if settings.fewshot_as_multiturn else f"{shots} in one message",
        f"task version {task.VERSION}",
    ]
    if chat and settings.system_instruction:
        notes.append("with a system instruction")
    notes += _notes(own, samples, seen, settings)
    notes += [f"{count} of {requests} {incident}" for incident, count in incidents.items()]
    common: dict[str, Any] = {
        "subject": subject,
        "language": language_of(name),
        "split": "test",
        "version": _whole_version(task),
    }
    measurements = []
    for (filtered, metric), values in _values_by_metric(samples).items():
        measurement = _measure_metric(
            label_of(name, metric, filtered, chat=chat),
            metric,
            values,
            task.aggregation().get(metric, mean),
            bootstrap,
            # It is None where lm-eval does not know the metric.
            is_loss=task.higher_is_better().get(metric) is False,
            note="; ".join(notes),
            common=common,
        )
        if measurement is not None:
            measurements.append(measurement)
    if seen is not None:
        measurements.append(_measure_seen(own.family if own else name, seen, common))
    return measurements


def _measure_seen(
    family: str, seen: tuple[int, int, int], common: Mapping[str, Any]
) -> Measurement:
    """Return the number of documents that occur in the training text."""
    found, searched, too_short = seen
    return Measurement(
        f"{family} documents seen in training",
        value=found,
        unit="documents",
        n=searched + too_short,
        note=f"{rule_of(common['language'])}; {too_short} too short to be looked for",
        **common,
    )


def _values_by_metric(
    samples: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str], list[Any]]:
    """Return the values of all documents for each filter and metric, in the order of the log."""
    samples_of: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        samples_of.setdefault(sample["filter"], []).append(sample)
    # Grouped by filter first: the order of the measurements follows from it.
    values: dict[tuple[str, str], list[Any]] = {}
    for filtered, of_filter in samples_of.items():
        metrics: dict[str, None] = {}
        for sample in of_filter:
            metrics.update(dict.fromkeys(sample["metrics"]))
        for metric in metrics:
            values[filtered, metric] = [sample[metric] for sample in of_filter if metric in sample]
    return values


def is_chat(task: Any, settings: TaskSettings) -> bool:
    """Return whether the prompts of a task are conversations; whole texts have no prompt."""
    return settings.apply_chat_template and task.OUTPUT_TYPE != "loglikelihood_rolling"


def label_of(name: str, metric: str, filtered: str, *, chat: bool = False) -> str:
    """Return the name of a task's metric in measurements.

    `filtered` is the filter of lm-eval that answers went through before they were scored. With
    `chat`, prompts were conversations: these scores are compared only with each other.
    """
    own = find_task(name)
    # In lm-eval, "none" is no filter, and "remove_whitespace" only strips an answer.
    suffix = "" if filtered in {"none", "remove_whitespace"} else f" ({filtered})"
    suffix += " (chat template)" if chat else ""
    return (
        f"{own.family} {LABELS.get(metric, metric)}{suffix}" if own else f"{name} {metric}{suffix}"
    )


def language_of(name: str) -> str:
    """Return the language of a task of the catalogue, or ""."""
    own = find_task(name)
    return own.language if own else ""


def _count_answers(samples: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the number of requests of each document: of answers, if answers are ranked."""
    return [len(sample["arguments"]) for sample in samples]


def _whole_version(task: Any) -> int:
    """Return the version of a task as an integer: 1.0 is 1."""
    try:
        return int(float(task.VERSION))
    except (TypeError, ValueError):
        return 0


def _notes(
    own: Any,
    samples: Sequence[Mapping[str, Any]],
    seen: tuple[int, int, int] | None,
    settings: TaskSettings,
) -> list[str]:
    """Return what a reader has to know about the scores of a task."""
    notes = []
    if own and own.score == "choice":
        # Documents may differ in their number of answers.
        chance = np.mean([1 / count for count in _count_answers(samples)])
        notes.append(f"chance {chance:.2f}")
    if own and own.foreign_words:
        notes.append("the prompt's own words are English")
    if seen and seen[0] and settings.contaminated == "drop":
        notes.append(f"{seen[0]} documents dropped that stand in the training text")
    return notes


def _measure_metric(
    label: str,
    metric: str,
    values: Sequence[Any],
    aggregate: Callable[[Sequence[Any]], Any],
    bootstrap: BootstrapSettings,
    *,
    is_loss: bool,
    note: str,
    common: Mapping[str, Any],
) -> Measurement | None:
    """Return the metric over all documents; `None` if it is not a number.

    Only what is better when it is higher has a unit (`TASK_UNITS`), which other scores lack.
    """
    numbers = [float(value) for value in values if isinstance(value, NUMBERS)]
    interval: tuple[float, float] | None
    if metric in CORPUS_METRICS:
        unit = "points"
        value, interval, signature = _corpus_score(metric, values, bootstrap)
        note = f"{note}; sacrebleu {signature}"
    elif len(numbers) == len(values) and aggregate is mean:
        share = all(0 <= number <= 1 for number in numbers)
        unit, value = "share" if share else "", float(np.mean(numbers))
        # The bootstrap of a share that is 0 or 1 would have no width.
        if share:
            interval = wilson_interval(numbers, bootstrap.confidence)
        else:
            interval = ratio_interval(numbers, np.ones(len(numbers)), bootstrap)
    else:
        whole = aggregate(values)
        if not isinstance(whole, NUMBERS):
            return None
        unit, value = "", float(whole)
        interval = _resampled(values, aggregate, bootstrap)
    unit = "" if is_loss else unit
    low, high = interval or (None, None)
    return Measurement(
        label,
        value=value,
        unit=unit,
        n=len(values),
        low=low,
        high=high,
        note=note,
        confidence=bootstrap.confidence if interval else None,
        **common,
    )


def _resampled(
    values: Sequence[Any],
    aggregate: Callable[[Sequence[Any]], Any],
    bootstrap: BootstrapSettings,
) -> tuple[float, float] | None:
    """Return the bootstrap interval of any aggregate; `None` below two documents."""
    if len(values) < 2:
        return None
    random = np.random.default_rng(bootstrap.seed)
    draws = []
    for _ in range(min(FEW_DRAWS, bootstrap.resamples)):
        drawn = random.integers(len(values), size=len(values))
        draws.append(aggregate([values[i] for i in drawn]))
    return percentiles(np.array(draws), bootstrap)


def wilson_interval(points: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of a share, which has a width even if all points are equal.

    >>> [round(bound, 3) for bound in wilson_interval([0.0] * 10, 0.95)]
    [0.0, 0.278]
    """
    n, share = len(points), float(np.mean(points))
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = share + z * z / (2 * n)
    half_width = z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
    scale = 1 + z * z / n
    low, high = (centre - half_width) / scale, (centre + half_width) / scale
    return low if share > 0 else 0.0, high if share < 1 else 1.0


def _corpus_score(
    name: str, pairs: Sequence[tuple[str, str]], bootstrap: BootstrapSettings
) -> tuple[float, tuple[float, float] | None, str]:
    """Return the corpus score of (reference, answer) pairs, its interval and its signature.

    A resample is scored from the sum of sacrebleu's counts per document, not from its texts.
    """
    metric = translation_metric(name)
    references, answers = map(list, zip(*pairs, strict=True))
    whole = min(float(metric.corpus_score(answers, [references]).score), PERFECT)
    signature = str(metric.get_signature())
    if len(pairs) < 2:
        return whole, None, signature
    counts_NC = corpus_statistics(metric, pairs)
    random = np.random.default_rng(bootstrap.seed)
    scores = []
    for _ in range(bootstrap.resamples):
        summed_C = counts_NC[random.integers(len(pairs), size=len(pairs))].sum(axis=0)
        scores.append(score_statistics(metric, summed_C))
    interval = percentiles(np.array(scores), bootstrap)
    if interval is not None:
        interval = interval[0], min(interval[1], PERFECT)
    return whole, interval, signature


def corpus_statistics(metric: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """Return sacrebleu's counts for each (reference, answer) pair, [documents, counts]."""
    references, answers = map(list, zip(*pairs, strict=True))
    # sacrebleu has no public way to sum the counts of chosen documents.
    return np.array(metric._extract_corpus_statistics(answers, [references]))  # noqa: SLF001


def score_statistics(metric: Any, counts: Any) -> float:
    """Return sacrebleu's score for summed counts."""
    return float(metric._compute_score_from_stats(counts.tolist()).score)  # noqa: SLF001
