"""Forgetting: how scores in the base language changed, selected from given measurements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lingraft.measurement import CHANGE, TASK_UNITS, TASKS, Measurement


@dataclass(frozen=True)
class Forgotten:
    """A metric of the base language before and after, and the measurement of its paired change.

    `change` is `None` if no paired change was measured.
    """

    metric: str
    subject: str
    before: Measurement
    after: Measurement
    change: Measurement | None

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after.value - self.before.value


def forgetting(measurements: Iterable[Measurement], language: str) -> list[Forgotten]:
    """Compare bits per byte and task scores in the base language of every model with the source.

    >>> given = [Measurement("bits per byte", "source", 1.5, "bits/byte", "en"),
    ...          Measurement("bits per byte", "adapted", 1.75, "bits/byte", "en")]
    >>> forgotten, = forgetting(given, "en")
    >>> forgotten.metric, forgotten.subject, forgotten.difference
    ('bits per byte', 'adapted', 0.25)
    """
    by_key: dict[tuple[str, str], Measurement] = {}
    own = []
    for measurement in measurements:
        if measurement.language == language:
            own.append(measurement)
            by_key[measurement.metric, measurement.subject] = measurement
    result = []
    for after in own:
        before = by_key.get((after.metric, "source"))
        if after.subject == "source" or before is None or not _shows_forgetting(after):
            continue
        change = by_key.get((after.metric + CHANGE, after.subject))
        result.append(Forgotten(after.metric, after.subject, before, after, change))
    return result


def _shows_forgetting(measurement: Measurement) -> bool:
    """Return whether a measurement is bits per byte or the score of a task."""
    # Tasks also have counts, such as documents seen in training, with other units.
    is_score = measurement.split == TASKS and measurement.unit in TASK_UNITS
    is_change = measurement.metric.endswith(CHANGE)
    return measurement.metric == "bits per byte" or (is_score and not is_change)
