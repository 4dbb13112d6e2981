"""The axes of a study: settings that vary from cell to cell, and the labels of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lingraft.errors import RecipeError
from lingraft.studies.config import Study

Label = str | float | int


@dataclass(frozen=True)
class Value:
    """A value of an axis: its label in tables, and the settings it sets, by dotted path.

    `lines` are where the settings were written.
    """

    label: Label
    settings: Mapping[str, Any]
    lines: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Axis:
    """A setting, or a group of settings, that varies from cell to cell."""

    name: str
    values: tuple[Value, ...]


def axes_of(study: Study) -> list[Axis]:
    """Return the axes with their values; for a list of cells, an axis for each setting they set."""
    if not study.cells:
        return [_axis(study, name, values) for name, values in study.axes.items()]
    values_by_path: dict[str, list[Any]] = {}
    lines: dict[str, list[str]] = {}
    for number, cell in enumerate(study.cells):
        for path, value in cell.items():
            values = values_by_path.setdefault(path, [])
            # Not a set: values may be mappings, which have no hash.
            if value not in values:
                values.append(value)
                lines.setdefault(path, []).append(study.line("cells", number, path))
    for cell in study.cells:
        missing = ", ".join(path for path in values_by_path if path not in cell)
        if missing:
            names = ", ".join(cell) or "nothing"
            msg = (
                f"study {study.name}: a cell sets {names}, but not {missing}; every cell must set "
                "the same settings"
            )
            raise RecipeError(msg)
    return [_axis_of_list(path, values, lines[path]) for path, values in values_by_path.items()]


def values_of(name: str, values: list[Any] | Mapping[str, Mapping[str, Any]]) -> list[Value]:
    """Return the values of an axis as a file has them: not checked, and without their lines."""
    if isinstance(values, Mapping):
        return [Value(str(label), settings) for label, settings in values.items()]
    return [
        Value(label, {name: value}) for label, value in zip(_labels(values), values, strict=True)
    ]


def _axis(study: Study, name: str, values: list[Any] | Mapping[str, Mapping[str, Any]]) -> Axis:
    if not isinstance(values, Mapping):
        lines = [study.line("axes", name, index) for index in range(len(values))]
        return _axis_of_list(name, values, lines)
    axis_values = []
    for label, settings in values.items():
        where = {path: study.line("axes", name, label, path) for path in settings}
        axis_values.append(Value(str(label), dict(settings), where))
    return Axis(name, tuple(axis_values))


def _axis_of_list(name: str, values: list[Any], lines: Sequence[str]) -> Axis:
    labels = _labels(values)
    axis_values = []
    for label, value, line in zip(labels, values, lines, strict=True):
        if labels.count(label) > 1:
            msg = (
                f"{line}: the axis {name} has two values called {label!r}; leave one out, or give "
                f"labels: {name}: {{LABEL: ...}}"
            )
            raise RecipeError(msg)
        axis_values.append(Value(label, {name: value}, {name: line}))
    return Axis(name, tuple(axis_values))


def _labels(values: Sequence[Any]) -> list[Label]:
    """Return a label for each value; of paths the last part, if all labels are then different.

    >>> _labels([1000, 0]), _labels(["../models/small", "mean", None])
    ([1000, 0], ['small', 'mean', 'none'])
    >>> _labels([{"mean": {"weights": "first"}}])
    ['mean(weights=first)']
    """
    long = [_label(value) for value in values]
    short = []
    for label in long:
        is_path = isinstance(label, str) and not label.endswith("/")
        short.append(str(label).rsplit("/", 1)[-1] if is_path else label)
    return short if len(set(short)) == len(short) else long


def _label(value: Any) -> Label:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        name, settings = next(iter(value.items()), ("", None))
        if len(value) == 1 and isinstance(settings, Mapping):  # a method with its settings
            return f"{name}({_label(settings)})" if settings else str(name)
        pairs = ",".join(f"{key}={_label(inner)}" for key, inner in value.items())
        return pairs or "none"
    return "+".join(str(_label(inner)) for inner in value) or "none"
