"""The results of a study as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from lingraft.formatting import counted, duration, number


def result_tables(record: Mapping[str, Any]) -> list[Table]:
    """Return the means of each axis, averaged over the other axes, and what follows from them.

    `record` is the content of study.json.
    """
    title = record["question"] or record["name"]
    means = Table(pad_edge=False, box=None, title=title, title_justify="left")
    for heading in ("axis", "metric", "language", "mean of each value, best (or lowest) first"):
        means.add_column(heading)
    sentences = Table(pad_edge=False, box=None, show_header=False)
    sentences.add_column()
    for ranked in record["rankings"]:
        pairs = zip(ranked["order"], ranked["means"], strict=True)
        values = "  ".join(f"{label} {number(mean)}" for label, mean in pairs)
        metric = f"{ranked['metric']} ({ranked['subject']})"
        means.add_row(ranked["axis"], metric, ranked["language"], values)
        sentences.add_row(ranked["sentence"])
    sentences.add_row(measured_on(record))
    stages = record["stages"]
    sentences.add_row(
        f"{len(record['cells'])} cells, {len(record['failures'])} failed; {stages['asked']} stages "
        f"needed, {stages['different']} different ones, {stages['built']} built in "
        f"{duration(record['seconds'])}"
    )
    return [means, sentences]


def warning_lines(record: Mapping[str, Any]) -> list[str]:
    """Return each warning of the cells in one line, with the cells that have it."""
    count = len(record["cells"])
    return [
        f"warning: {_cells(found['cells'], count)}: {found['warning']}"
        for found in record.get("warnings", ())
    ]


def _cells(names: list[str], of: int) -> str:
    """Return which cells a warning is about.

    >>> _cells(["a", "b"], 2), _cells(["a"], 2)
    ('all 2 cells', 'a')
    """
    if len(names) == of:
        return f"all {counted(of, 'cell')}"
    more = f" and {counted(len(names) - 3, 'more cell')}" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def measured_on(record: Mapping[str, Any]) -> str:
    """Return on how many seeds and on which held-out text the numbers of a study rest.

    >>> measured_on({"seeds": [0, 1], "heldout": {"hi": "58 documents (40 kB)"}})
    '2 seeds; held-out text of each cell: hi: 58 documents (40 kB)'
    """
    texts = [f"{language}: {amount}" for language, amount in record.get("heldout", {}).items()]
    held_out = f"; held-out text of each cell: {', '.join(texts)}" if texts else ""
    return f"{counted(len(record['seeds']), 'seed')}{held_out}"
