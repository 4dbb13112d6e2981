"""The names of axes, choices and languages in the charts of a study."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from lingraft.display_text import language_name
from lingraft.formatting import join_words
from lingraft.report.chart_labels import LABEL_LINE

TOGETHER = "+"
"""Joins the target languages of a cell that has several."""
NAME_WIDTH = LABEL_LINE - 7
"""The characters of a line of a label that are left for a name next to a number."""


def short(axis: str) -> str:
    """Return the name of an axis in a chart: the last part of its path.

    >>> short("vocabulary.size"), short("embeddings")
    ('size', 'embeddings')
    """
    return axis.rsplit(".", 1)[-1]


def choice_label(labels: Mapping[str, str], axes: Sequence[str]) -> str:
    """Return the name of a combination of values; numbers and switches have that of their axis.

    >>> labels = {"vocabulary.size": "500", "training": "full", "learning_rates.body": "-0.01"}
    >>> choice_label(labels, ["training"]), choice_label(labels, list(labels))
    ('full', 'size 500, full, body -0.01')
    """
    return ", ".join(_value_name(axis, labels[axis]) for axis in axes)


def _value_name(axis: str, label: str) -> str:
    if not re.match(r"-?[\d.]|(True|False|None)$", label):
        return label
    # A line of a chart has room for so much. The length of the number decides nothing, so that all
    # values of an axis have the same name.
    whole = axis.replace(".", " ")
    return f"{whole if len(whole) <= NAME_WIDTH else short(axis)} {label}"


def language_names(targets: Iterable[str]) -> str:
    """Return the names of the languages of `StudyFiles.by_target`, each once.

    >>> language_names(["hi+ta", "hi", "tr"]), language_names([""])
    ('Hindi, Tamil and Turkish', '')
    """
    tags = dict.fromkeys(TOGETHER.join(targets).split(TOGETHER))
    return join_words([language_name(tag) for tag in tags if tag])
