"""Where a run under way will end, from the rows of its log: shown beside the progress bar.

What is planned is known: how much text is still to come, and at which rates. What is not is how the loss goes on
(`forecast`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.training.forecast import Forecast, Point, predict_end
from lingraft.training.schedules import Schedule

FIRST, EVERY = 0.1, 0.05
"""Of the steps: when the first outlook is given, and how often it is made anew."""

FALLEN = 0.5
"""A rate that ends below this share of its peak gains what a falling rate gains."""


@dataclass
class Outlook:
    """The outlook on the end of a phase of so many steps."""

    schedule: Schedule
    steps: int
    told: str = ""

    def note(self, log: Path, step: int) -> str:
        """Return what stands beside the progress bar after so many steps: ", held-out end 0.931 (0.902 to 0.958)"."""
        if step >= FIRST * self.steps and step % max(1, round(EVERY * self.steps)) == 0:
            rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            found = self.forecast(rows, step)
            what = "held-out end" if any(row.get("heldout") for row in rows) else "end"
            self.told = f", {what} {found.value:.3f} ({found.low:.3f} to {found.high:.3f})" if found else ""
        return self.told

    def forecast(self, rows: Sequence[Mapping[str, Any]], step: int) -> Forecast | None:
        """Return what the rows say of the end of the phase; None as long as they are too few."""
        points = points_of(rows)
        language = next((next(iter(row["heldout"])) for row in rows if row.get("heldout")), "")
        if not points or not step:
            return None
        each = points[-1].bytes / step
        ahead = each * sum(self.schedule.factor(later, self.steps) for later in range(step, self.steps))
        falls = self.schedule.factor(self.steps - 1, self.steps) < FALLEN
        try:
            return predict_end(points, each * self.steps, heldout=heldout_points(rows, language), annealed=falls,
                               ahead=ahead)
        except RecipeError:
            return None


def points_of(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the target's bits per byte, step by step, from rows of training.jsonl."""
    steps = [row for row in rows if "target_bits_per_byte" in row]
    peak = _peak(steps)
    return [Point(row["target_bytes"], row["target_bits_per_byte"], row["learning_rate_embeddings"] / peak)
            for row in steps]


def heldout_points(rows: Sequence[Mapping[str, Any]], language: str) -> list[Point]:
    """Return the points of the held-out curve in a language, from rows of training.jsonl; not that before training."""
    steps = {row["step"]: row for row in rows if "target_bytes" in row}
    peak = _peak(list(steps.values()))
    return [Point(steps[row["step"]]["target_bytes"], row["heldout"][language],
                  steps[row["step"]]["learning_rate_embeddings"] / peak)
            for row in rows if row["step"] in steps and language in row.get("heldout", {})]


def weighed_bytes(planned: Sequence[Point]) -> float:
    """Return the bytes between the first and the last of the points, each weighed by its rate over the peak."""
    return sum((later.bytes - before.bytes) * (later.factor + before.factor) / 2
               for before, later in pairwise(planned))


def _peak(rows: Sequence[Mapping[str, Any]]) -> float:
    return max((float(row["learning_rate_embeddings"]) for row in rows), default=0.0) or 1.0
