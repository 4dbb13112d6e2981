"""Changes of task scores from one model to another, paired over the documents that both answered.

The interval of a mean score comes from the differences per document. A corpus score (spBLEU,
chrF++) is not a mean: both models' scores are computed again on the same resamples of documents,
from sacrebleu's counts per document.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.evaluation.bootstrap import difference_interval, percentiles
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.tasks.task_measurements import (
    CORPUS_METRICS,
    corpus_statistics,
    label_of,
    language_of,
    score_statistics,
)
from lingraft.evaluation.tasks.task_metrics import translation_metric
from lingraft.measurement import TASK_UNITS, Measurement

Scores = dict[tuple[str, str], dict[str, Any]]
"""(metric, language) -> document -> (lm-eval's metric, value)."""


def task_changes(
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    samples_before: Path,
    samples_after: Path,
    bootstrap: BootstrapSettings,
) -> list[Measurement]:
    """Measure the change of each score in `after` that is in `before`, with its paired interval.

    `samples_before` and `samples_after` are the files samples.jsonl of `run_tasks`.
    """
    reference = {(row.metric, row.language): row for row in before}
    scores_before, scores_after = _read_scores(samples_before), _read_scores(samples_after)
    changes = []
    for row in after:
        key = row.metric, row.language
        first = reference.get(key)
        # Other units are counts, such as documents seen in training.
        if first is None or row.unit not in TASK_UNITS:
            continue
        first_scores, scores = scores_before.get(key, {}), scores_after.get(key, {})
        interval, paired = _interval(first_scores, scores, bootstrap)
        low, high = interval or (None, None)
        changes.append(
            replace(
                row,
                metric=f"{row.metric} change",
                value=row.value - first.value,
                n=paired,
                low=low,
                high=high,
                confidence=bootstrap.confidence if interval else None,
                note=f"minus {first.subject}, paired over {paired} documents",
            )
        )
    return changes


def _read_scores(path: Path) -> Scores:
    """Read the score of each document from a log of samples.

    A document is identified by its task, its content and its number.
    """
    scores: Scores = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            sample = json.loads(line)
            task = sample["task"]
            for metric in sample["metrics"]:
                # Only samples of conversations have this key.
                chat = sample.get("chat_template", False)
                key = (label_of(task, metric, sample["filter"], chat=chat), language_of(task))
                document = f"{task} {sample['doc_hash']} {sample['doc_id']}"
                scores.setdefault(key, {})[document] = (metric, sample[metric])
    return scores


def _interval(
    before: dict[str, Any], after: dict[str, Any], bootstrap: BootstrapSettings
) -> tuple[tuple[float, float] | None, int]:
    """Return the interval of the change, and the number of documents in both logs."""
    metric, first, second = "", [], []
    for document in after:
        if document in before:
            metric = before[document][0]
            first.append(before[document][1])
            second.append(after[document][1])
    if len(first) < 2:
        return None, len(first)
    if metric in CORPUS_METRICS:
        return _corpus_interval(metric, first, second, bootstrap), len(first)
    ones = np.ones(len(first))
    second_ratio = np.array(second, dtype=float), ones
    first_ratio = np.array(first, dtype=float), ones
    return difference_interval(second_ratio, first_ratio, bootstrap), len(first)


def _corpus_interval(
    metric: str,
    first: Sequence[tuple[str, str]],
    second: Sequence[tuple[str, str]],
    bootstrap: BootstrapSettings,
) -> tuple[float, float] | None:
    """Return the interval of the change of a corpus score over (reference, answer) pairs."""
    scorer = translation_metric(metric)
    counts_before = corpus_statistics(scorer, first)
    counts_after = corpus_statistics(scorer, second)
    random = np.random.default_rng(bootstrap.seed)
    differences = []
    for _ in range(bootstrap.resamples):
        # The same documents for both models, so that the difference is paired.
        drawn = random.integers(len(first), size=len(first))
        before = score_statistics(scorer, counts_before[drawn].sum(axis=0))
        after = score_statistics(scorer, counts_after[drawn].sum(axis=0))
        differences.append(after - before)
    return percentiles(np.array(differences), bootstrap)
