"""Measurements: one record for every number in every table and chart.

A `Measurement` is a value of one metric for one model in one language. A `MetricChange` is what a
run changes in a metric: the values of its models, and their paired differences from the source.
Measurements are stored as parquet, and as CSV for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.text_units import FERTILITY_METRICS, KEPT_WHOLE_METRICS

if TYPE_CHECKING:
    import pyarrow as pa

# The models of a run: the source, the source with added rows before training, and the result.
SUBJECTS = ("source", "spliced", "adapted")
# The suffix of a metric that is the paired difference of the metric without the suffix.
CHANGE = " change"
# The split of task scores.
TASKS = "test"
TASK_UNITS = frozenset({"share", "points"})
"""The units of task scores that are better when they are higher; others may be losses."""
HIGHER_IS_BETTER = frozenset(
    {
        "characters per token",
        "generation speed",
        "generation speed in characters",
        "prefill speed",
        "documents tokenised identically",
        *KEPT_WHOLE_METRICS,
        "frequent words kept whole",
        "added tokens preferred to their pieces",
        "added tokens written where possible",
        "copying gain",
        "mapping gain",
    }
)
LOWER_IS_BETTER = frozenset(
    {
        "bits per byte",
        *FERTILITY_METRICS,
        "tokens per byte",
        "tokens per document",
        "bits per byte of copied words",
        "bits per byte of mapped words",
        "training time",
        "initialisation time",
    }
)
MIN_DOCUMENTS = 20
"""From fewer documents than this, no improvement or loss is claimed.

An interval that resamples so few documents is too narrow: it cannot know of the texts that are not
among them.
"""
# Metrics that are neither better nor worse when they change.
NEUTRAL = frozenset(
    {
        "new tokens generated",
        "Renyi efficiency",
        "bits per byte of generated text",
        # A model that predicts the beginning of a document better gains less without a loss.
        "in-context gain at bytes 512 to 1,024",
        "in-context gain at bytes 1,024 to 2,048",
    }
)


# Metrics of which neither a lower nor a higher value is good in itself, and which are not ordered.
WITHOUT_DIRECTION = frozenset(
    {
        "added tokens in use",
        "added tokens in frequent use",
        "exposures of an added token",
        "rarely seen added tokens",
        "under-trained added tokens",
        "tokens that are added",
        "tokens per sentence",
        "normalised sequence length",
        "premium over English",
        "Gini of premiums",
        "Gini of premiums with English",
        "repetition",
        "time to write 1,000 bytes",
        "tokens added",
        "parameters",
        "parameters per token",
        "training tokens",
        "training bytes",
        "training bytes of target text",
    }
)


def direction(metric: str, split: str = "", unit: str = "") -> int:
    """Return 1 if a higher value of a metric is better, -1 if a lower one is, 0 if not known.

    A change has the direction of its metric. Scores of tasks (`split` is `TASKS`) have names of
    their own; in which unit they are says whether higher is better.

    >>> direction("bits per byte change"), direction("belebele accuracy", TASKS, "share")
    (-1, 1)
    >>> direction("training tokens")
    0
    """
    if split == TASKS:
        return int(unit in TASK_UNITS)
    name = metric.removesuffix(CHANGE)
    return (name in HIGHER_IS_BETTER) - (name in LOWER_IS_BETTER)


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    `subject` is the measured model or tokenizer ("source", "spliced", "adapted", or a name). The
    value is an average over `n` units, for example documents; `per` names the unit. `low` and
    `high` are the bounds of the interval with level `confidence`, if there is one. `version` is
    that of the metric's definition.
    """

    metric: str
    subject: str
    value: float
    unit: str
    language: str = ""
    split: str = "heldout"
    n: int = 1
    per: str = "document"
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    version: int = 1
    note: str = ""


def arrow_table(rows: Iterable[Measurement]) -> pa.Table:
    """Return measurements as a table with a column for each field."""
    import pyarrow as pa

    types = {
        "str": pa.string(),
        "float": pa.float64(),
        "int": pa.int64(),
        "float | None": pa.float64(),
    }
    schema = pa.schema(
        [(field.name, types[str(field.type)]) for field in dataclasses.fields(Measurement)]
    )
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)


def write_measurements(rows: Iterable[Measurement], path: Path) -> None:
    """Write measurements as parquet, or as CSV if the path ends in .csv."""
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    table = arrow_table(rows)
    if path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        pq.write_table(table, path)


def read_measurements(path: Path) -> list[Measurement]:
    """Read the measurements of a parquet file."""
    import pyarrow.parquet as pq

    return [Measurement(**row) for row in pq.read_table(path).to_pylist()]


def select(rows: Iterable[Measurement], **wanted: object) -> list[Measurement]:
    """Return the measurements whose named fields have the wanted values.

    >>> rows = [Measurement("fertility", "source", 5.5, "tokens/word", language="hi")]
    >>> [row.value for row in select(rows, metric="fertility", language="hi")]
    [5.5]
    """
    return [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]


@dataclass(frozen=True)
class MetricChange:
    """One metric in one language: its measurements and paired differences, both by subject."""

    metric: str
    language: str
    unit: str
    rows: Mapping[str, Measurement]
    paired: Mapping[str, Measurement]

    @property
    def before(self) -> Measurement | None:
        """The measurement of the source."""
        return self.rows.get("source")

    @property
    def last(self) -> Measurement | None:
        """The measurement of the adapted model, or of the spliced one in a run without training."""
        return self.rows.get("adapted") or self.rows.get("spliced")

    @property
    def factor(self) -> float | None:
        """The last value divided by that of the source."""
        before, after = self.before, self.last
        return after.value / before.value if before and after and before.value else None

    @property
    def difference(self) -> Measurement | None:
        """The paired difference of the last measurement from the source, if it was measured."""
        return self.paired.get(self.last.subject) if self.last else None

    @property
    def verdict(self) -> str:
        """The change in one word: better, worse, same, unclear, few or "no interval".

        "better" and "worse" require that the intervals separate the values: the interval of the
        paired difference does not contain 0 or, if there is none, the intervals of the two values
        do not overlap. "unclear" means that they do not separate them, "no interval" that there
        are no intervals. With fewer than `MIN_DOCUMENTS` documents (or other units) an interval
        says too little, and the verdict is "few". A metric that is neither good nor bad has "", and
        so has a task's score that is neither a share nor points: it may be a loss.
        """
        before, after = self.before, self.last
        if not before or not after or self.metric in NEUTRAL or self.unit == "documents":
            return ""
        if after.split == TASKS and after.unit not in TASK_UNITS:
            return ""
        if after.value == before.value:
            return "same"
        separated = self._are_separated(before, after)
        # Few prompts of a measured speed are no small sample of a text: they have no interval.
        if after.n < MIN_DOCUMENTS and (separated is not None or after.per == "document"):
            return "few"
        if separated is not True:
            return "no interval" if separated is None else "unclear"
        higher = direction(self.metric, after.split, after.unit) > 0
        return "better" if (after.value > before.value) == higher else "worse"

    def _are_separated(self, before: Measurement, after: Measurement) -> bool | None:
        """Return whether the intervals separate two values; `None` without intervals."""
        # Paired first: the difference on the same documents has a much smaller variance.
        paired = self.difference
        if paired and paired.low is not None and paired.high is not None:
            return not paired.low <= 0 <= paired.high
        low, high = sorted((before, after), key=lambda row: row.value)
        if None in (low.low, high.high) or low.high is None or high.low is None:
            return None
        return low.high < high.low


def metric_changes(rows: Sequence[Measurement]) -> list[MetricChange]:
    """Return each metric in each language once, in the order of the measurements.

    >>> rows = [Measurement("bits per byte", "source", 1.5, "bits/byte", "hi"),
    ...         Measurement("bits per byte", "adapted", 0.75, "bits/byte", "hi"),
    ...         Measurement("bits per byte change", "adapted", -0.75, "bits/byte", "hi")]
    >>> [(entry.metric, entry.factor, entry.difference.value) for entry in metric_changes(rows)]
    [('bits per byte', 0.5, -0.75)]
    """
    values: dict[tuple[str, str], dict[str, Measurement]] = {}
    paired: dict[tuple[str, str], dict[str, Measurement]] = {}
    for row in rows:
        group = paired if row.metric.endswith(CHANGE) else values
        group.setdefault((row.metric.removesuffix(CHANGE), row.language), {})[row.subject] = row
    changes = []
    for key, by_subject in values.items():
        unit = next(iter(by_subject.values())).unit
        changes.append(MetricChange(*key, unit, by_subject, paired.get(key, {})))
    return changes


def find_change(
    changes: Iterable[MetricChange], metric: str, language: str | None
) -> MetricChange | None:
    """Return the change of a metric in a language, or `None` if it was not measured."""
    for entry in changes:
        if (entry.metric, entry.language) == (metric, language):
            return entry
    return None


def find_fertility(changes: Iterable[MetricChange], language: str | None) -> MetricChange | None:
    """Return the change in tokens per word, syllable or character; `None` if it is unknown."""
    for entry in changes:
        if entry.metric in FERTILITY_METRICS and entry.language == language:
            return entry
    return None
