"""Forgetting: what a model lost, or kept, of the language that it came from, picked from the rows of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lingraft.measurement import CHANGE, TASKS, Measurement


@dataclass(frozen=True)
class Forgotten:
    """One measure of the base language: before, after, and their paired difference where documents are paired."""

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
    """Return bits per byte and task scores in the base language, for every model beside the first.

    >>> rows = [Measurement("bits per byte", "source", 1.5, "bits/byte", "en"),
    ...         Measurement("bits per byte", "adapted", 1.75, "bits/byte", "en")]
    >>> [(one.metric, one.subject, one.difference) for one in forgetting(rows, "en")]
    [('bits per byte', 'adapted', 0.25)]
    """
    own = [row for row in rows if row.language == language]
    values = {(row.metric, row.subject): row for row in own}
    chosen = [
        row
        for row in own
        if row.metric == "bits per byte"
        or (
            row.split == TASKS
            and row.unit in {"share", "points"}
            and not row.metric.endswith(CHANGE)
        )
    ]
    return [
        Forgotten(
            row.metric, row.subject, before, row, values.get((row.metric + CHANGE, row.subject))
        )
        for row in chosen
        if row.subject != first and (before := values.get((row.metric, first))) is not None
    ]
