"""Labels of charts that take several lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any

LABEL_LINE, LABEL_LINES, LINE_HEIGHT = 20, 3, 14
"""The characters of a line of a wrapped label, the most lines, and the height of a line.

The height is one more than `charts.FONT_SIZE`.
"""
LINE_BREAK = "¶"  # in labels, where control characters are replaced
DIVISION = "\N{ZERO WIDTH SPACE} "
"""Where a long word may be divided."""


def wrapped(label: str) -> str:
    """Return a label for `label_axis`, in lines of 20 characters, at most three.

    >>> wrapped("mean of the rows of all subtokens")
    'mean of the rows of¶all subtokens'
    >>> wrapped("mean(weights=characters)")
    'mean¶(weights=characters)'
    >>> wrapped("Hindi (keep)")
    'Hindi (keep)'
    >>> wrapped("replay share 0.2, KL 1")
    'replay share 0.2,¶KL 1'
    >>> wrapped("distilled(windows_per_token=5), 0.8 MB")
    'distilled (windows_¶per_token=5),¶0.8 MB'
    """
    # A method with its settings is one word, which can be divided before its bracket.
    words = re.sub(r"(?<=\S)\(", " (", label)
    # A number stays with its name: lines are not broken at a no-break space.
    words = re.sub(r" (?=[\d.]+(?:,|$))", "\N{NO-BREAK SPACE}", words)
    # A name of a setting that is longer than a line is divided after its parts.
    words = re.sub(rf"\S{{{LABEL_LINE + 1},}}", lambda word: _divided(word[0]), words)
    lines = textwrap.wrap(words, LABEL_LINE, max_lines=LABEL_LINES, placeholder=" …")
    text = LINE_BREAK.join(lines).replace("\N{NO-BREAK SPACE}", " ")
    return text.replace(DIVISION, "").replace(DIVISION.strip(), "")


def _divided(word: str) -> str:
    return re.sub(r"(?<=[_=])", DIVISION, word)


def line_labels(names: Iterable[str]) -> dict[str, str]:
    """Return each name with its label for `label_axis`: `wrapped`, or whole if that is taken.

    Two long names may have the same beginning, and each must have its own line.

    >>> begin = "the same beginning of two names, which is longer than three lines: "
    >>> line_labels([begin + "1", begin + "2"])[begin + "2"] == begin + "2"
    True
    """
    labels: dict[str, str] = {}
    for name in names:
        label = wrapped(name)
        labels[name] = name if label in labels.values() else label
    return labels


def label_axis() -> Any:
    """Return the vertical axis of a chart with a line for each label, which may be `wrapped`."""
    import altair as alt

    return alt.Axis(
        labelFontWeight="bold",
        ticks=False,
        labelExpr=f"split(datum.label, '{LINE_BREAK}')",
        labelLineHeight=LINE_HEIGHT,
        # The first line of a label is at its tick: half of the others belong above.
        labelOffset={
            "condition": [
                {
                    "test": f"length(split(datum.label, '{LINE_BREAK}')) == {lines}",
                    "value": -LINE_HEIGHT * (lines - 1) / 2,
                }
                for lines in range(2, LABEL_LINES + 1)
            ],
            "value": 0,
        },
    )
