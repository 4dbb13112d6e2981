"""Reads a study folder for its report: the record, and the few numbers that tables and charts show.

A *group* holds the cells that differ in their seed only. Its values are averaged over seeds, with
the minimum and maximum.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from lingraft.formatting import counted
from lingraft.report.study_names import TOGETHER, choice_label, short
from lingraft.report.study_numbers import (
    BITS,
    COST,
    ValueKey,
    fertility_metric,
    numbers_of_cells,
    value_of,
)
from lingraft.studies.statistics import interval_over_seeds
from lingraft.studies.study_folder import StudyFolder
from lingraft.studies.study_table import Row
from lingraft.studies.text_needed import (
    Runs,
    TextNeeded,
    read_curves,
    text_needed,
    text_to_equal,
)

SIZE, FORM = "vocabulary.size", "vocabulary.pretokenizer"
"""The axes of a study of how many tokens to add."""


@dataclass(frozen=True)
class Spread:
    """A number of a group: its mean, minimum and maximum over seeds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """Cells that differ in their seed only."""

    labels: Mapping[str, Any]
    cells: Sequence[str]
    values: Mapping[ValueKey, Spread]

    def name(self, axes: Sequence[str]) -> str:
        """Return its values on those axes that distinguish it from other groups."""
        parts = [f"{short(axis)} {self.labels[axis]}" for axis in axes if axis in self.labels]
        return ", ".join(parts) or "the recipe"

    def get(self, key: ValueKey) -> Spread | None:
        """Return a number; a model that was not trained has the number of the spliced model."""
        return value_of(self.values, key)


@dataclass(frozen=True)
class AxisMean:
    """The mean of a number at a value of an axis, over `seeds` seeds.

    The number of each seed is averaged over the other axes first, so the interval is over seeds
    only. There is none with one seed, and where the seed changes nothing. `targets` has the target
    language of each combination of the other axes that is averaged over, and `where` says which of
    their values these are, if not all.
    """

    label: str
    value: float
    interval: tuple[float, float] | None
    seeds: int
    targets: Sequence[str]
    where: str = ""


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
        """The finished cells, grouped over seeds."""
        members: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for cell in self._finished:
            members.setdefault(tuple(cell["labels"].items()), []).append(cell)
        groups = []
        for labels, cells in members.items():
            names = [cell["name"] for cell in cells]
            numbers_of_cells = [self._numbers.get(name, {}) for name in names]
            spreads = dict(_spreads(numbers_of_cells))
            groups.append(Group(dict(labels), names, spreads))
        return groups

    @cached_property
    def _by_labels(self) -> dict[tuple[str, ...], Group]:
        return {tuple(map(str, group.labels.values())): group for group in self.groups}

    @cached_property
    def by_target(self) -> dict[str, StudyFiles]:
        """The finished cells of each target language as a study; of several, they are joined by +.

        Bits per byte and fertility depend on the script, so only cells in one part compare.
        """
        cells_of: dict[str, list[Mapping[str, Any]]] = {}
        for cell in self._finished:
            cells_of.setdefault(self._target(cell), []).append(cell)
        parts = {}
        for target, cells in cells_of.items():
            names = {cell["name"] for cell in cells}
            rows, curves = (
                [row for row in table if row["cell"] in names] for table in (self.rows, self.curves)
            )
            parts[target] = StudyFiles(
                self.folder, {**self.record, "cells": cells}, rows, curves, differences=()
            )
        return parts

    @property
    def choice_axes(self) -> list[str]:
        """The names of the axes that differ between cells of the same target language."""
        labels: dict[tuple[str, str], set[str]] = {}
        for cell in self._finished:
            for axis in self.axes:
                found = labels.setdefault((axis, self._target(cell)), set())
                found.add(str(cell["labels"].get(axis)))
        varied = {axis for (axis, _), found in labels.items() if len(found) > 1}
        return [axis for axis in self.axes if axis in varied]

    def means(
        self, axes: Sequence[str], key: ValueKey, *, compared: bool = False
    ) -> list[AxisMean]:
        """Return the mean of a number at each combination of axis values, in the order of cells.

        Only those combinations of the other axes and the target language count that have the number
        everywhere, and of a mean only the seeds that have all of them: otherwise the means would be
        of different things. Means for which no seed is left are left out. If `compared`, a number
        is its difference from that of the first combination with the same seed.
        """
        numbers: dict[str, dict[tuple[str, ...], dict[int, float]]] = {}
        other_axes = [axis for axis in self.axes if axis not in axes]
        for cell in self._finished:
            number = value_of(self._numbers.get(cell["name"], {}), key)
            if number is not None and cell["labels"].keys() >= set(axes):
                labels = {name: str(label) for name, label in cell["labels"].items()}
                contexts = numbers.setdefault(choice_label(labels, axes), {})
                context = (self._target(cell), *(labels.get(axis, "") for axis in other_axes))
                contexts.setdefault(context, {})[cell["seed"]] = number
        shared = set.intersection(*map(set, numbers.values())) if numbers else set()
        first = next(iter(numbers.values()), {})
        targets = sorted(target for target, *_ in shared)
        where = _shared_where(other_axes, list(chain.from_iterable(numbers.values())), shared)
        means = []
        for label, contexts in numbers.items():
            by_seed: dict[int, list[float]] = {}
            for context in shared:
                for seed, number in contexts[context].items():
                    if not compared:
                        by_seed.setdefault(seed, []).append(number)
                    elif seed in first[context]:
                        by_seed.setdefault(seed, []).append(number - first[context][seed])
            complete = [sum(of) / len(of) for of in by_seed.values() if len(of) == len(shared)]
            if complete:
                mean, interval = sum(complete) / len(complete), interval_over_seeds(complete)
                means.append(AxisMean(label, mean, interval, len(complete), targets, where))
        return means

    @cached_property
    def text_needed(self) -> list[TextNeeded]:
        """The text that each value of an axis needs, compared with the first value.

        Values that were measured on different documents are not compared.
        """
        found = text_needed(self.curves, self.axes)
        return [needed for needed in found if needed.axis not in self.axes_on_different_text]

    @property
    def axes_on_different_text(self) -> set[str]:
        """The names of the axes whose values were measured on different documents."""
        return {axis for axis, _ in self.record.get("different documents", ())}

    @cached_property
    def diverged(self) -> set[str]:
        """The names of the cells whose training ended in what is not a number."""
        last: dict[tuple[str, str], Row] = {}
        for row in self.curves:
            if row["role"] == "target":
                run = row["cell"], row["language"]
                last[run] = max(last.get(run, row), row, key=itemgetter("step"))
        cells = {cell for (cell, _), row in last.items() if not math.isfinite(row["bits_per_byte"])}
        for cell, numbers in self._numbers.items():
            if not math.isfinite(numbers.get(BITS, 0.0)):
                cells.add(cell)
        return cells

    def diverged_note(self, axes: Sequence[str]) -> str:
        """Return which combinations of axis values have runs that diverged; "" if none has."""
        counts: dict[str, list[bool]] = {}
        for cell in self._finished:
            labels = {name: str(label) for name, label in cell["labels"].items()}
            if labels.keys() >= set(axes):
                label = choice_label(labels, axes)
                counts.setdefault(label, []).append(cell["name"] in self.diverged)
        parts = []
        for label, of_label in counts.items():
            if any(of_label):
                parts.append(f"{label} ({sum(of_label)} of {counted(len(of_label), 'run')})")
        return f" Diverged, and left out: {', '.join(parts)}." if parts else ""

    def curves_of(self, group: Group) -> Runs:
        """Return the curves of a group, by seed and language."""
        return read_curves(row for row in self.curves if row["cell"] in group.cells)

    def without_tokens(self, group: Group) -> Group | None:
        """Return the group without added tokens that is else like this one; None if there is none.

        Without added tokens the pre-tokenizer stays as it is, so it has no other value there.
        """
        wanted = {**group.labels, SIZE: "0", **({FORM: "keep"} if FORM in group.labels else {})}
        return self._by_labels.get(tuple(map(str, wanted.values())))

    def text_to_equal(self, group: Group) -> TextNeeded | None:
        """Return the text that a group needs for the result of the one without added tokens."""
        base = self.without_tokens(group)
        if base is None or base is group:
            return None
        first, second = self.curves_of(base), self.curves_of(group)
        return text_to_equal(first, second, SIZE, ("0", str(group.labels[SIZE])))

    def relative_cost(self, group: Group) -> float | None:
        """Return the training FLOPs of a group, divided by those without added tokens."""
        base = self.without_tokens(group)
        cost, of_base = group.get(COST), base.get(COST) if base else None
        return cost.value / of_base.value if cost and of_base else None

    @property
    def fertility_metric(self) -> str:
        """The name of `FERTILITY`: tokens per word, syllable or character, of the target text."""
        return fertility_metric(self.rows)

    def model_of(self, key: ValueKey) -> str:
        """Return which model has a number of the adapted model: not that where none was trained."""
        is_adapted = {
            key in of_cell
            for of_cell in self._numbers.values()
            if value_of(of_cell, key) is not None
        }
        if False not in is_adapted:
            return "adapted model"
        if True not in is_adapted:
            return "spliced model, which was not trained"
        return "adapted model, or the spliced one where it was not trained"

    def _target(self, cell: Mapping[str, Any]) -> str:
        return self._targets.get(cell["name"], "")

    @cached_property
    def _targets(self) -> dict[str, str]:
        """The target language of each cell that was measured in one."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            if row["role"] == "target":
                found.setdefault(row["cell"], set()).add(row["language"])
        return {cell: TOGETHER.join(sorted(languages)) for cell, languages in found.items()}

    @property
    def _finished(self) -> list[Mapping[str, Any]]:
        return [cell for cell in self.record["cells"] if cell["status"] == "done"]

    @cached_property
    def _numbers(self) -> dict[str, dict[ValueKey, float]]:
        return numbers_of_cells(self.rows)


def _shared_where(
    axes: Sequence[str], contexts: Sequence[tuple[str, ...]], shared: Collection[tuple[str, ...]]
) -> str:
    """Return which values of other axes are in the shared contexts; "" if all are.

    A context is a target language and the value of each of the axes.

    >>> hindi, turkish = ("hi", "keep"), ("tr", "keep")
    >>> _shared_where(["form"], [hindi, ("hi", "auto"), turkish], {hindi, turkish})
    'Only with form keep. '
    """
    parts = []
    for index, axis in enumerate(axes, start=1):
        labels = dict.fromkeys(context[index] for context in contexts)
        in_shared = {context[index] for context in shared}
        found = [label for label in labels if label in in_shared]
        if len(found) < len(labels):
            parts.append(f"{short(axis)} {' or '.join(found)}")
    return f"Only with {', '.join(parts)}. " if parts else ""


def _spreads(numbers: Sequence[Mapping[ValueKey, float]]) -> Iterator[tuple[ValueKey, Spread]]:
    """Yield the spread of each number over the cells of a group."""
    by_key: dict[ValueKey, list[float]] = {}
    for of_cell in numbers:
        for key, value in of_cell.items():
            by_key.setdefault(key, []).append(value)
    for key, values in by_key.items():
        yield key, Spread(sum(values) / len(values), min(values), max(values))


def read_study_files(folder: Path) -> StudyFiles:
    """Read a study folder; raises `StoreError` if it is not a finished study."""
    study = StudyFolder(folder)
    return StudyFiles(folder, study.record, study.table(), study.curves(), study.differences())
