"""Rows of measurements from what lm-eval logged of each document, with intervals over documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lingraft.intrinsic.intervals import ratio_interval
from lingraft.intrinsic.settings import BootstrapSettings
from lingraft.measurement import Measurement
from lingraft.tasks.catalogue import find
from lingraft.tasks.contamination import RULE
from lingraft.tasks.scoring import translation_metric
from lingraft.tasks.settings import TaskSettings

LABELS = {"acc_bytes": "accuracy", "exact_match": "accuracy"}
BOOTSTRAP = BootstrapSettings()
DRAWS = 200
"""Resamples of a corpus score: spBLEU of 1,000 sentences takes 1 ms for each."""


def rows_of(name: str, task: Any, samples: Sequence[Mapping[str, Any]], settings: TaskSettings, subject: str, *,
            seen: tuple[int, int, int] | None, incidents: Mapping[str, int]) -> list[Measurement]:
    """Return the rows of one task: one for each of its metrics, and one for the documents seen in training."""
    own = find(name)
    family = own.family if own else name
    language = own.language if own else ""
    version = _version(task)
    requests = sum(len(sample["arguments"]) for sample in samples)
    note = "; ".join([f"{task.get_config('num_fewshot')} shots", f"task version {task.VERSION}",
                      *_facts(own, samples, seen, settings),
                      *(f"{count} of {requests} {what}" for what, count in incidents.items())])
    common: dict[str, Any] = {"subject": subject, "language": language, "split": "test", "version": version}
    rows = []
    for filtered in dict.fromkeys(sample["filter"] for sample in samples):
        chosen = [sample for sample in samples if sample["filter"] == filtered]
        suffix = "" if filtered in {"none", "remove_whitespace"} else f" ({filtered})"
        for metric in chosen[0]["metrics"]:
            row = _row(f"{family} {(LABELS.get(metric, metric) if own else metric)}{suffix}", metric,
                       [sample[metric] for sample in chosen], note, common)
            rows.extend([row] if row else [])
    if seen is not None:
        rows.append(Measurement(f"{family} documents seen in training", value=seen[0], unit="documents",
                                n=seen[1] + seen[2], note=f"{RULE}; {seen[2]} too short to be looked for", **common))
    return rows


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
    if seen and settings.contaminated == "drop":
        facts.append(f"{seen[0]} documents dropped that stand in the training text")
    return facts


def _row(label: str, metric: str, values: Sequence[Any], note: str, common: Mapping[str, Any]) -> Measurement | None:
    """Return the mean of numbers, or a corpus score of pairs; `None` for what is neither."""
    if metric in {"spBLEU", "chrF++"}:
        references, answers = zip(*values, strict=True)
        score = translation_metric(metric).corpus_score(list(answers), [list(references)], n_bootstrap=DRAWS)
        several = len(values) > 1
        return Measurement(label, value=score.score, unit="points", n=len(values), note=note,
                           low=score._mean - score._ci if several else None,  # noqa: SLF001 - sacrebleu prints them only
                           high=score._mean + score._ci if several else None,  # noqa: SLF001
                           confidence=0.95 if several else None, **common)
    if not all(isinstance(value, int | float | np.number) for value in values):
        return None
    interval = ratio_interval([float(value) for value in values], np.ones(len(values)), BOOTSTRAP)
    low, high = interval or (None, None)
    return Measurement(label, value=float(np.mean(values)), unit="share", n=len(values), low=low, high=high, note=note,
                       confidence=BOOTSTRAP.confidence if interval else None, **common)
