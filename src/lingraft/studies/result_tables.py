"""The results of a study as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from lingraft.formatting import duration, number


def result_tables(record: Mapping[str, Any]) -> list[Table]:
    """Return the means of each axis, averaged over the other axes, and what follows from them.

    `record` is the content of study.json.
    """
    title = record["question"] or record["name"]
    means = Table(pad_edge=False, box=None, title=title, title_justify="left")
    for heading in ("axis", "metric", "language", "mean of each value, best first"):
        means.add_column(heading)
    sentences = Table(pad_edge=False, box=None, show_header=False)
    sentences.add_column()
    for ranked in record["rankings"]:
        pairs = zip(ranked["order"], ranked["means"], strict=True)
        values = "  ".join(f"{label} {number(mean)}" for label, mean in pairs)
        metric = f"{ranked['metric']} ({ranked['subject']})"
        means.add_row(ranked["axis"], metric, ranked["language"], values)
        sentences.add_row(ranked["sentence"])
    stages = record["stages"]
    sentences.add_row(
        f"{len(record['cells'])} cells, {len(record['failures'])} failed; {stages['asked']} stages "
        f"needed, {stages['different']} different ones, {stages['built']} built in "
        f"{duration(record['seconds'])}"
    )
    return [means, sentences]
