"""A finished study as its page needs it: the record, and for each cell the few numbers that charts lay out.

A *group* is what differs by seed alone: its values are averaged over seeds, and spread from the least to the greatest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.study.study_folder import StudyFolder
from lingraft.study.study_table import Row

Wanted = tuple[str, str, str]
"""Metric, subject, role of the language."""

FERTILITY: Wanted = ("tokens per word", "adapted", "target")
BITS: Wanted = ("bits per byte", "adapted", "target")
BITS_BEFORE: Wanted = ("bits per byte", "source", "target")
BASE_CHANGE: Wanted = ("bits per byte change", "adapted", "replay")
ADDED: Wanted = ("tokens added", "spliced", "")
COST: Wanted = ("training cost", "adapted", "")
PARAMETERS: Wanted = ("parameters", "spliced", "")
TOKENS: Wanted = ("training tokens", "adapted", "")


@dataclass(frozen=True)
class Spread:
    """A number of a group: its mean over seeds, the least and the greatest."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Cells that differ by their seed alone."""

    labels: Mapping[str, Any]
    cells: Sequence[str]
    values: Mapping[Wanted, Spread]

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return (
            ", ".join(f"{axis.rsplit('.', 1)[-1]} {label}" for axis, label in self.labels.items())
            or "the recipe"
        )

    def get(self, wanted: Wanted) -> Spread | None:
        """Return a number; where a model was not trained, that of the spliced one stands for the adapted one."""
        metric, subject, role = wanted
        found = self.values.get(wanted)
        return (
            self.values.get((metric, "spliced", role))
            if found is None and subject == "adapted"
            else found
        )


@dataclass(frozen=True)
class StudyFiles:
    """The content of a study folder."""

    folder: Path
    record: Mapping[str, Any]
    rows: Sequence[Row]
    curves: Sequence[Row]
    differences: Sequence[Row]

    @property
    def axes(self) -> list[str]:
        """The names of the axes."""
        return [axis["name"] for axis in self.record["axes"]]

    @cached_property
    def groups(self) -> list[Group]:
        """The cells that were carried out, put together over seeds."""
        members: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for cell in self.record["cells"]:
            if cell["status"] == "done":
                members.setdefault(tuple(cell["labels"].items()), []).append(cell)
        numbers: dict[str, dict[Wanted, float]] = {}
        for row in self.rows:
            own = numbers.setdefault(row["cell"], {})
            own.setdefault((row["metric"], row["subject"], row["role"] or ""), row["value"])
        for own in numbers.values():
            if PARAMETERS in own and TOKENS in own:
                own[COST] = (
                    6 * own[PARAMETERS] * own[TOKENS]
                )  # of training: forward 2, backward 4 (Kaplan et al. 2020)
        return [
            Group(
                dict(labels),
                [cell["name"] for cell in cells],
                dict(_spreads([numbers.get(cell["name"], {}) for cell in cells])),
            )
            for labels, cells in members.items()
        ]


def _spreads(numbers: Sequence[Mapping[Wanted, float]]) -> Iterator[tuple[Wanted, Spread]]:
    for wanted in dict.fromkeys(key for own in numbers for key in own):
        values = [own[wanted] for own in numbers if wanted in own]
        yield wanted, Spread(sum(values) / len(values), min(values), max(values))


def read_study_files(folder: Path) -> StudyFiles:
    """Read a study folder; raises `StoreError` where it is no finished study."""
    study = StudyFolder(folder)
    return StudyFiles(folder, study.record, study.table(), study.curves(), study.differences())


def short(axis: str) -> str:
    """Return what an axis is called in a chart.

    >>> short("vocabulary.size"), short("embeddings")
    ('size', 'embeddings')
    """
    return axis.rsplit(".", 1)[-1]
