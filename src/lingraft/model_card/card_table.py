"""The table of the card: every metric before and after, by language."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.measurement import MIN_DOCUMENTS, SUBJECTS, Measurement, metric_changes
from lingraft.measurement_text import change, confidence_levels, measured
from lingraft.model_card.markdown import escape_markdown, markdown_table

FEW = "†"
"""Marks a change that was measured on too few documents."""


def measurement_table(measurements: Sequence[Measurement]) -> str:
    """Return a table of all metrics by language, and an explanation of its columns."""
    lines = []
    few = ""
    for entry in metric_changes(measurements):
        # Only the models of a run have a column.
        if entry.rows.keys().isdisjoint(SUBJECTS):
            continue
        metric, unit = escape_markdown(entry.metric), escape_markdown(entry.unit)
        values = [measured(entry.rows.get(subject)) for subject in SUBJECTS]
        difference = change(entry.before, entry.last, entry.difference)
        if entry.verdict == "few":
            difference += f" {FEW}"
            few = f" {FEW}: fewer than {MIN_DOCUMENTS}, too few to say better or worse."
        lines.append([metric, entry.language, unit, *values, difference])
    table = markdown_table(
        ("metric", "language", "unit", *SUBJECTS, "change from the source"), lines
    )
    return (
        f"{table}\n\n`source` is the base, `spliced` is the base with the added tokens before any "
        f"training, `adapted` is this model. {_legend(measurements)}{few}"
    )


def _legend(measurements: Sequence[Measurement]) -> str:
    level = confidence_levels(row.confidence for row in measurements)
    if not level:
        return "No intervals were measured."
    return (
        f"In brackets: the {level} interval over held-out documents; for a change, the interval of "
        "the paired difference. Lower is better for bits per byte and tokens, higher is better for "
        "speeds. Speeds depend on the machine."
    )
