"""How task scores change from one model to another, paired over the documents that both were asked.

A mean of scores changes by the mean of the differences. Of corpus scores (spBLEU, chrF++) both are computed again on
the same draws of documents, from what sacrebleu counts in each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.intrinsic.intervals import difference_interval
from lingraft.measurement import Measurement
from lingraft.tasks.measuring import BOOTSTRAP, label_of, language_of
from lingraft.tasks.scoring import translation_metric

CORPUS_METRICS = ("spBLEU", "chrF++")
DRAWS = 200
Scores = dict[tuple[str, str], dict[str, Any]]


def task_changes(before: Sequence[Measurement], after: Sequence[Measurement], samples_before: Path,
                 samples_after: Path) -> list[Measurement]:
    """Return a change row for each score in `after` that `before` has too: difference, and its paired interval."""
    reference = {(row.metric, row.language): row for row in before}
    one, two = _scores(samples_before), _scores(samples_after)
    rows = []
    for row in after:
        first = reference.get((row.metric, row.language))
        if first is None or row.unit not in {"share", "points"}:
            continue
        low, high, paired = _interval(one.get((row.metric, row.language), {}), two.get((row.metric, row.language), {}))
        rows.append(replace(row, metric=f"{row.metric} change", value=row.value - first.value, n=paired, low=low,
                            high=high, confidence=BOOTSTRAP.confidence if low is not None else None,
                            note=f"minus {first.subject}, paired over {paired} documents"))
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
                found.setdefault(key, {})[f"{task} {sample['doc_hash']} {sample['doc_id']}"] = (metric, sample[metric])
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
    interval = difference_interval((np.array(second, dtype=float), ones), (np.array(first, dtype=float), ones),
                                   BOOTSTRAP)
    return (*interval, len(shared)) if interval else (None, None, len(shared))


def _corpus_interval(metric: str, first: Sequence[Any], second: Sequence[Any]) -> tuple[float, float]:
    scorer = translation_metric(metric)
    counts = [np.array(scorer._extract_corpus_statistics([answer for _, answer in pairs],  # noqa: SLF001
                                                         [[reference for reference, _ in pairs]]))
              for pairs in (first, second)]
    random = np.random.default_rng(BOOTSTRAP.seed)
    differences = []
    for _ in range(DRAWS):
        drawn = random.integers(len(first), size=len(first))
        before, after = (scorer._compute_score_from_stats(part[drawn].sum(axis=0).tolist()).score  # noqa: SLF001
                         for part in counts)
        differences.append(after - before)
    tail = (1 - BOOTSTRAP.confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)
