"""Changes of task scores from one model to another, paired over the documents that both answered.

A mean of scores changes by the mean of the differences. Corpus scores (spBLEU, chrF++) of both
models are computed again on the same resamples of documents, from sacrebleu's counts per document.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.evaluation.bootstrap import difference_interval
from lingraft.evaluation.tasks.task_measurements import (
    BOOTSTRAP,
    CORPUS_METRICS,
    corpus_statistics,
    label_of,
    language_of,
    percentiles,
    score_statistics,
)
from lingraft.evaluation.tasks.task_metrics import translation_metric
from lingraft.measurement import Measurement

DRAWS = 200
"""Resamples of a change of corpus scores; each takes two scores of sacrebleu."""

Scores = dict[tuple[str, str], dict[str, Any]]
"""(metric, language) -> document -> (lm-eval's metric, value)."""


def task_changes(
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    samples_before: Path,
    samples_after: Path,
) -> list[Measurement]:
    """Measure the change of each score in `after` that is in `before`, with its paired interval."""
    reference = {(row.metric, row.language): row for row in before}
    scores_before, scores_after = _read_scores(samples_before), _read_scores(samples_after)
    changes = []
    for row in after:
        first = reference.get((row.metric, row.language))
        if first is None or row.unit not in {"share", "points"}:
            continue
        key = row.metric, row.language
        low, high, paired = _interval(scores_before.get(key, {}), scores_after.get(key, {}))
        changes.append(
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
                key = (label_of(task, metric, sample["filter"]), language_of(task))
                document = f"{task} {sample['doc_hash']} {sample['doc_id']}"
                scores.setdefault(key, {})[document] = (metric, sample[metric])
    return scores


def _interval(
    before: dict[str, Any], after: dict[str, Any]
) -> tuple[float | None, float | None, int]:
    """Return the interval of the change, and the number of documents in both logs."""
    shared = [document for document in after if document in before]
    if len(shared) < 2:
        return None, None, len(shared)
    metric = before[shared[0]][0]
    first = [before[document][1] for document in shared]
    second = [after[document][1] for document in shared]
    if metric in CORPUS_METRICS:
        low, high = _corpus_interval(metric, first, second)
        return low, high, len(shared)
    ones = np.ones(len(shared))
    second_ratio = np.array(second, dtype=float), ones
    first_ratio = np.array(first, dtype=float), ones
    interval = difference_interval(second_ratio, first_ratio, BOOTSTRAP)
    return (*interval, len(shared)) if interval else (None, None, len(shared))


def _corpus_interval(
    metric: str, first: Sequence[tuple[str, str]], second: Sequence[tuple[str, str]]
) -> tuple[float, float]:
    """Return the interval of the change of a corpus score over (reference, answer) pairs."""
    scorer = translation_metric(metric)
    counts_before = corpus_statistics(scorer, first)
    counts_after = corpus_statistics(scorer, second)
    random = np.random.default_rng(BOOTSTRAP.seed)
    differences = []
    for _ in range(DRAWS):
        # The same documents for both models, so that the difference is paired.
        drawn = random.integers(len(first), size=len(first))
        before = score_statistics(scorer, counts_before[drawn].sum(axis=0))
        after = score_statistics(scorer, counts_after[drawn].sum(axis=0))
        differences.append(after - before)
    return percentiles(differences)
