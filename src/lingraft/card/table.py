"""Every measured number of the source, spliced and adapted model, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lingraft.card.markdown import plain, table
from lingraft.measurement import Measurement

SUBJECTS = ("source", "spliced", "adapted")
CHANGE = " change"


def measurement_table(rows: Sequence[Measurement]) -> str:
    """Return a line for each metric and language, and what the numbers in brackets are.

    A metric that ends in " change" is the paired difference to the source; it stands in the last column of its metric.
    """
    values = {(row.metric, row.language, row.subject): row for row in rows}
    lines = []
    for metric, language in dict.fromkeys((row.metric, row.language) for row in rows):
        if metric.endswith(CHANGE):
            continue
        found = {subject: values[metric, language, subject] for subject in SUBJECTS
                 if (metric, language, subject) in values}
        if not found:
            continue
        last = next(reversed(found))
        change = values.get((metric + CHANGE, language, last))
        lines.append([plain(metric), language, plain(next(iter(found.values())).unit),
                      *(_with_interval(found.get(subject)) for subject in SUBJECTS), _with_interval(change, sign="+")])
    told = _legend(rows)
    return (table(("metric", "language", "unit", *SUBJECTS, "change from the source"), lines)
            + "\n\n`source` is the base, `spliced` the base with the new tokens before any training, `adapted` this "
            "model. " + told)


def _with_interval(row: Measurement | None, *, sign: str = "") -> str:
    if row is None:
        return ""
    text = _number(row.value, sign)
    if row.low is None or row.high is None or row.low == row.high:
        return text
    return f"{text} ({_number(row.low, sign)} to {_number(row.high, sign)})"


def _number(value: float, sign: str = "") -> str:
    """Return three digits, all of a large number.

    >>> _number(1234.5), _number(0.65657), _number(-0.0123, "+")
    ('1,234', '0.657', '-0.0123')
    """
    return format(value, f"{sign},.0f" if abs(value) >= 1000 else f"{sign}.3g")


def _legend(rows: Sequence[Measurement]) -> str:
    levels: Mapping[float, None] = dict.fromkeys(row.confidence for row in rows if row.confidence is not None)
    if not levels:
        return "No intervals were measured."
    shown = " and ".join(f"{level:.0%}" for level in levels)
    return (f"In brackets: the {shown} interval over held-out documents. Bits per byte, and tokens, are better when "
            "lower; speeds when higher, on the machine that measured.")
