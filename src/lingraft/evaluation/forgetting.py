"""Forgetting: how scores in the base language changed, selected from measurements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lingraft.measurement import CHANGE, TASKS, Measurement


@dataclass(frozen=True)
class Forgotten:
    """A metric of the base language before and after, and its paired change if documents match."""

    metric: str
    subject: str
    before: Measurement
    after: Measurement
    change: Measurement | None

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after.value - self.before.value


def forgetting(
    rows: Iterable[Measurement], language: str, *, first: str = "source"
) -> list[Forgotten]:
    """Compare bits per byte and task scores in the base language of every model with the first.

    >>> rows = [Measurement("bits per byte", "source", 1.5, "bits/byte", "en"),
    ...         Measurement("bits per byte", "adapted", 1.75, "bits/byte", "en")]
    >>> [(each.metric, each.subject, each.difference) for each in forgetting(rows, "en")]
    [('bits per byte', 'adapted', 0.25)]
    """
    own = [row for row in rows if row.language == language]
    by_key = {(row.metric, row.subject): row for row in own}
    result = []
    for row in own:
        before = by_key.get((row.metric, first))
        if row.subject == first or before is None or not _shows_forgetting(row):
            continue
        change = by_key.get((row.metric + CHANGE, row.subject))
        result.append(Forgotten(row.metric, row.subject, before, row, change))
    return result


def _shows_forgetting(row: Measurement) -> bool:
    """Return whether a measurement is bits per byte or the score of a task."""
    is_score = row.split == TASKS and row.unit in {"share", "points"}
    return row.metric == "bits per byte" or (is_score and not row.metric.endswith(CHANGE))
