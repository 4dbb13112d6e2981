"""The cells of a study: one recipe for each combination of axis values and each seed.

The name of a cell depends on its labels, its settings and its seed, not on the other cells. If
values are added to an axis, the earlier cells keep their names, so that their finished runs are
found again.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError, did_you_mean
from lingraft.recipe import Recipe
from lingraft.recipe.load import resolve_paths
from lingraft.recipe.old_names import current_tree
from lingraft.recipe.overrides import Assignment, override
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.text_needs import largest, preset_bytes, resolve_presets
from lingraft.recipe.tree import Place, Tree, place_of
from lingraft.recipe.yaml import read_file
from lingraft.store import digest
from lingraft.studies.axes import Axis, Label, Value, axes_of, values_of
from lingraft.studies.compared_metrics import check_compared
from lingraft.studies.config import SEED, Study

LONGEST_NAME = 80
"""Characters of the labels in the name of a cell; the seed and a hash follow."""


@dataclass(frozen=True)
class Cell:
    """A run of a study; `labels` maps each axis to the label of its value."""

    name: str
    labels: Mapping[str, Label]
    seed: int
    recipe: Recipe


Point = Mapping[str, Value]
"""A value for each axis, by the name of the axis."""


def cells_of(study: Study, folder: Path = Path()) -> list[Cell]:
    """Return every cell; raises `RecipeError` with the labels of a cell whose recipe is not valid.

    A relative path that the study sets is looked up in the current directory, then in `folder`.
    """
    axes = axes_of(study)
    base = Path(study.recipe)
    # The recipe is read once: its old names are then reported once, not for each cell.
    tree = current_tree(read_file(base))
    tree = replace(tree, values=resolve_paths(tree.values, base.parent))
    points = _points_of_cells(study, axes) if study.cells else _points_of_grid(study, axes)
    if not points:
        msg = f"study {study.name}: `skip` leaves out every cell; remove an entry of it"
        raise RecipeError(msg)
    runs = itertools.product(points, study.seeds)
    cells = [_cell(study, tree, folder, point, seed) for point, seed in runs]
    # Cells that differ in budget or vocabulary would read different amounts of a preset, and then
    # differ in their text, too.
    needs = largest(preset_bytes(cell.recipe) for cell in cells)
    cells = [replace(cell, recipe=resolve_presets(cell.recipe, needs)) for cell in cells]
    # And cells are compared on the same documents.
    if any(cell.recipe.training.chooses for cell in cells):
        cells = [replace(cell, recipe=_on_reported_half(cell.recipe)) for cell in cells]
    _check_different(study, cells)
    check_compared(study, [cell.recipe for cell in cells])
    return cells


def _check_different(study: Study, cells: Sequence[Cell]) -> None:
    """Raise `RecipeError` for cells with the same settings, such as budgets of 1 MB and 1000 kB.

    Their difference would be reported as 0, as if it had been measured.
    """
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.recipe.model_dump_json(exclude={"name"}), cell)
        if other is not cell:
            msg = (
                f"study {study.name}: the cells with {_labelled(other.labels)} and with "
                f"{_labelled(cell.labels)} have the same settings; remove one of the two"
            )
            raise RecipeError(msg)


def _labelled(labels: Mapping[str, Label]) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in labels.items())


def _on_reported_half(recipe: Recipe) -> Recipe:
    evaluation = recipe.evaluation.model_copy(update={"heldout_part": "reported"})
    return recipe.model_copy(update={"evaluation": evaluation})


def _points_of_cells(study: Study, axes: Sequence[Axis]) -> list[Point]:
    """Return the points of a study that lists its cells."""
    points: list[Point] = []
    for number, cell in enumerate(study.cells):
        if cell in study.cells[:number]:
            msg = f"{study.line('cells', number)}: this cell is in the list twice; leave one out"
            raise RecipeError(msg)
        point = {}
        for axis in axes:
            for value in axis.values:
                if value.settings[axis.name] == cell[axis.name]:
                    point[axis.name] = value
        points.append(point)
    return points


def _points_of_grid(study: Study, axes: Sequence[Axis]) -> list[Point]:
    """Return the grid of all axes without skipped points, or a random sample of it."""
    _check_skip(study)
    names = [axis.name for axis in axes]
    grid: list[Point] = []
    for values in itertools.product(*[axis.values for axis in axes]):
        point = dict(zip(names, values, strict=True))
        if not _is_skipped(study, point):
            grid.append(point)
    if study.sample_cells is None or study.sample_cells >= len(grid):
        return grid
    # The sample is sorted, so that cells run in the order of the grid.
    sample = random.Random(study.sample_seed).sample(range(len(grid)), study.sample_cells)
    return [grid[index] for index in sorted(sample)]


def _check_skip(study: Study) -> None:
    """Raise `RecipeError` for an entry of `skip` with an axis or a value that no scale has."""
    for number, entry in enumerate(study.skip):
        for axis, skipped in entry.items():
            where = study.line("skip", number, axis)
            written = study.values_written(axis)
            if not written:
                msg = f"{where}: skip: {axis} is no axis; the axes are {', '.join(study.axes)}"
                raise RecipeError(msg)
            known = list(chain.from_iterable(values_of(axis, values) for values in written))
            for one in _as_list(skipped):
                if not any(_is_value(axis, value, one) for value in known):
                    labels = dict.fromkeys(str(value.label) for value in known)
                    msg = (
                        f"{where}: skip: the axis {axis} has no value {one!r}; "
                        f"{did_you_mean(str(one), labels)}"
                    )
                    raise RecipeError(msg)


def _is_skipped(study: Study, point: Point) -> bool:
    """Say whether an entry of `skip` matches a point."""
    return any(_matches(entry, point) for entry in study.skip)


def _matches(entry: Mapping[str, Any], point: Point) -> bool:
    for axis, skipped in entry.items():
        if axis not in point:
            return False
        if not any(_is_value(axis, point[axis], one) for one in _as_list(skipped)):
            return False
    return True


def _is_value(axis: str, value: Value, named: Any) -> bool:
    """Say whether an axis value is the one that `skip` names, by its label or as it is set."""
    # The labels of an axis with names are text, though YAML reads 1 as a number.
    if str(value.label) == str(named):
        return True
    # The settings of a label may be shared with other labels: those are named by the label alone.
    return axis in value.settings and value.settings[axis] == named


def _as_list(skipped: Any) -> list[Any]:
    return skipped if isinstance(skipped, list) else [skipped]


def _cell(study: Study, tree: Tree, folder: Path, point: Point, seed: int) -> Cell:
    labels = {axis: value.label for axis, value in point.items()}
    lines = {path: study.line("settings", path) for path in study.settings}
    settings: dict[str, Any] = {}
    for value in (Value("settings", study.settings, lines), *point.values()):
        _check_replaced(settings, value, lines)
        settings.update(value.settings)
        lines.update(value.lines)
    # The name is made before paths are resolved: it must not depend on where the study is.
    name = _cell_name(labels, settings, seed)
    changes = {**resolve_paths(settings, folder), SEED: seed, "name": name}
    where = f"study {study.name}"
    overrides = [
        Assignment(path, setting, lines.get(path, where)) for path, setting in changes.items()
    ]
    try:
        recipe = parse_settings(current_tree(override(tree, overrides)), Recipe)
    except RecipeError as error:
        msg = f"{error} (study {study.name}, the cell with {_labelled(labels)})"
        raise RecipeError(msg) from error
    return Cell(name, labels, seed, recipe)


def _check_replaced(settings: Mapping[str, Any], value: Value, lines: Mapping[str, str]) -> None:
    """Raise `RecipeError` if a value of an axis sets what is set already, or a group with it.

    The first setting would have no effect, and cells with different labels could be the same.
    """
    for path in value.settings:
        place = _without_first_index(path)
        # The first value of a list stands for the list where only one is written.
        groups = {place, place[:-1]} if place[-1] == 0 else {place}
        for earlier in settings:
            other = _without_first_index(earlier)
            if other[: len(place)] == place or other in groups:
                msg = (
                    f"{value.lines.get(path, 'study')}: {path} would discard {earlier}, which is "
                    f"also set ({lines[earlier]}); remove one of the two"
                )
                raise RecipeError(msg)


def _without_first_index(path: str) -> Place:
    """Return a path without what may be left out of it: the index 0, and `phases` of training.

    They can be left out only where a part follows: `training.phases` is not all of `training`.
    """
    *around, last = place_of(path)
    return (*(part for part in around if part not in {0, "phases"}), last)


def _cell_name(labels: Mapping[str, Label], settings: Mapping[str, Any], seed: int) -> str:
    """Return the name of a cell and of its run folder, like `500-mean-s0-1f2e3d`."""
    parts = []
    for label in labels.values():
        part = re.sub(r"[^A-Za-z0-9.]+", "_", str(label)).strip("_.")
        parts.append(part or "x")
    readable = "-".join(parts)[:LONGEST_NAME].lstrip("._-")
    # Labels may be cut off or equal for different settings, so a hash of the settings is added.
    return f"{readable or 'cell'}-s{seed}-{digest(settings)[:6]}"
