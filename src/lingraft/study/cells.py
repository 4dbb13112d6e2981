"""Cells: the points of a study, each a recipe with its own values and seed.

The name of a cell depends on its labels and its settings only. It stays the same if other values
are added or axes change their order, so that finished runs are found again.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.recipe import Recipe, assignment, parse_recipe
from lingraft.recipe.load import resolve_paths
from lingraft.recipe.old_names import current_tree
from lingraft.recipe.tree import Tree
from lingraft.recipe.yaml import override, read_file
from lingraft.store import digest
from lingraft.study.config import SEED, Study

LONGEST_NAME = 80


@dataclass(frozen=True)
class Value:
    """A value of an axis: its label in tables (a number if it is one), and the settings it sets."""

    label: str | float | int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """A setting, or a group of settings, that varies from cell to cell."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Cell:
    """One run of a study: `labels` are its values by axis."""

    name: str
    labels: Mapping[str, str | float | int]
    seed: int
    recipe: Recipe


def axes_of(study: Study) -> list[Axis]:
    """Return the axes with their values; for a list of cells, an axis for each setting they set."""
    if study.cells:
        paths = list(dict.fromkeys(path for cell in study.cells for path in cell))
        short = next((cell for cell in study.cells if set(cell) != set(paths)), None)
        if short is not None:
            missing = ", ".join(path for path in paths if path not in short)
            names = ", ".join(short) or "nothing"
            msg = (
                f"study {study.name}: a cell sets {names}, but not {missing}; every cell must set "
                "the same settings"
            )
            raise RecipeError(msg)
        return [_axis(path, _each_once(cell[path] for cell in study.cells)) for path in paths]
    return [_axis(name, values) for name, values in study.axes.items()]


def cells_of(study: Study, folder: Path = Path()) -> list[Cell]:
    """Return every cell; raises `RecipeError` with the name of a cell whose recipe is not valid.

    Relative paths that the study sets are relative to the current directory, or else to `folder`.
    """
    axes = axes_of(study)
    base = Path(study.recipe)
    tree = current_tree(read_file(base))
    tree = Tree(resolve_paths(tree.values, base.parent), tree.origins)
    points = list(_chosen(study, axes))
    if not points:
        msg = f"study {study.name}: no cell is left; look at `skip`"
        raise RecipeError(msg)
    names = [axis.name for axis in axes]
    points_by_axis = [dict(zip(names, point, strict=True)) for point in points]
    return [
        _cell(study, tree, folder, point, seed) for point in points_by_axis for seed in study.seeds
    ]


def _chosen(study: Study, axes: Sequence[Axis]) -> Iterator[tuple[Value, ...]]:
    """Yield the points: a list of cells, the grid, or a random sample of it in grid order."""
    if study.cells:
        for cell in study.cells:
            yield tuple(
                next(value for value in axis.values if value.settings[axis.name] == cell[axis.name])
                for axis in axes
            )
        return
    grid = [
        point
        for point in itertools.product(*(axis.values for axis in axes))
        if not any(_matches(axes, point, left_out) for left_out in study.skip)
    ]
    kept = range(len(grid))
    if study.sample_cells is not None and study.sample_cells < len(grid):
        kept = sorted(random.Random(study.sample_seed).sample(kept, study.sample_cells))  # type: ignore[assignment]
    yield from (grid[index] for index in kept)


def _matches(axes: Sequence[Axis], point: Sequence[Value], wanted: Mapping[str, Any]) -> bool:
    by_name = {axis.name: value for axis, value in zip(axes, point, strict=True)}
    unknown = set(wanted) - set(by_name)
    if unknown:
        msg = f"skip: {unknown.pop()} is no axis; the axes are {', '.join(by_name)}"
        raise RecipeError(msg)
    return all(
        any(_is(by_name[name], one) for one in (values if isinstance(values, list) else [values]))
        for name, values in wanted.items()
    )


def _is(value: Value, written: Any) -> bool:
    return value.label == written or written in value.settings.values()


def _cell(study: Study, tree: Tree, folder: Path, point: Mapping[str, Value], seed: int) -> Cell:
    labels = {axis: value.label for axis, value in point.items()}
    changed = dict(study.settings)
    for value in point.values():
        changed.update(value.settings)
    name = _name(tuple(point.values()), changed, seed)
    laid = {**resolve_paths(changed, folder), SEED: seed, "name": name}
    try:
        recipe = parse_recipe(
            override(tree, [assignment(path, value) for path, value in laid.items()])
        )
    except RecipeError as error:
        told = ", ".join(f"{axis} {label}" for axis, label in labels.items())
        msg = f"study {study.name}, the cell with {told}: {error}"
        raise RecipeError(msg) from error
    return Cell(name, labels, seed, recipe)


def _name(point: Sequence[Value], changed: Mapping[str, Any], seed: int) -> str:
    told = "-".join(
        re.sub(r"[^A-Za-z0-9.]+", "_", str(value.label)).strip("_.") or "x" for value in point
    )
    return f"{told[:LONGEST_NAME].lstrip('._-') or 'cell'}-s{seed}-{digest(changed)[:6]}"


def _axis(name: str, values: list[Any] | Mapping[str, Mapping[str, Any]]) -> Axis:
    if isinstance(values, Mapping):
        return Axis(
            name, tuple(Value(str(label), dict(settings)) for label, settings in values.items())
        )
    labels = _labels(values)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        msg = (
            f"the axis {name} has two values called {twice!r}; leave one out, or give labels: "
            f"{name}: {{LABEL: ...}}"
        )
        raise RecipeError(msg)
    return Axis(
        name,
        tuple(Value(label, {name: value}) for label, value in zip(labels, values, strict=True)),
    )


def _labels(values: Sequence[Any]) -> list[str | float | int]:
    """Return short labels; paths by their last part where that tells them apart.

    >>> _labels([1000, 0]), _labels(["../models/small", "mean", None]), _labels([{"mean": {"weights": "first"}}])
    ([1000, 0], ['small', 'mean', 'none'], ['mean(weights=first)'])
    """
    long = [_label(value) for value in values]
    short = [
        label.rsplit("/", 1)[-1] if isinstance(label, str) and not label.endswith("/") else label
        for label in long
    ]
    return short if len(set(short)) == len(short) else long


def _label(value: Any) -> str | float | int:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        inner = ",".join(f"{key}={_label(one)}" for key, one in value.items())
        name, settings = next(iter(value.items()), ("", None))
        if len(value) == 1 and isinstance(settings, Mapping):  # a method with its settings
            return f"{name}({_label(settings)})" if settings else str(name)
        return inner or "none"
    return "+".join(str(_label(one)) for one in value) or "none"


def _each_once(values: Iterable[Any]) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept
