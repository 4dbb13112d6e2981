"""Read a study: its file, the scale that it names, and command-line overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError, did_you_mean, shown
from lingraft.recipe.old_names import current_assignments, current_place
from lingraft.recipe.overrides import Assignment, override, parse_assignment
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.tree import Place, Tree, dotted, place_of
from lingraft.recipe.yaml import read_file
from lingraft.store import path_exists
from lingraft.studies.config import SEED, Study

MERGED = ("settings", "axes")
"""Fields that a scale adds to; it replaces every other field."""

OWN = ("name", "question", "seeds", "sample_cells", "sample_seed", "scale", "compare")
"""Fields that an override of a study sets; every other path is an axis or a recipe setting."""

PREFIX = "study."
"""In front of a path, the fields of a study that `lingraft settings study` lists can be set."""


def read_study(path: Path, overrides: Sequence[str | Assignment] = ()) -> Study:
    """Read a study and apply `PATH=VALUE` overrides; raises `RecipeError` with file and line.

    A path in `OWN` (`seeds`, `scale` and others) sets that field of the study. The path of an axis
    replaces the values of the axis. Any other path is a setting of the recipe in every cell.
    """
    tree = read_file(path)
    if "target" in tree.values and "recipe" not in tree.values:
        msg = (
            f"{path}: a recipe, not a study; name a study, which has the settings `recipe: {path}` "
            "and `axes`, or run `lingraft adapt` with the recipe"
        )
        raise RecipeError(msg)
    return parse_study(tree, path, overrides)


def parse_study(tree: Tree, path: Path, overrides: Sequence[str | Assignment] = ()) -> Study:
    """Return the study in a tree of settings that was read from `path`; see `read_study`."""
    tree = _current(tree, ())
    written_axes = _written_axes(tree.values)
    scales: list[Assignment] = []
    own: list[Assignment] = []
    settings: list[Assignment] = []
    for given in overrides:
        assignment = parse_assignment(given) if isinstance(given, str) else given
        name = dotted(current_place(place_of(assignment.path), assignment.where))
        part = name.removeprefix(PREFIX)
        field = part.partition(".")[0]
        is_listed = part != name and not part.startswith(("axes.", "settings."))
        assignments = own if field in OWN or is_listed else settings
        if assignments is own and field in {"scale", "scales"}:
            assignments = scales
        assignments.append(Assignment(part, assignment.value, assignment.where))
    # An override applies to any scale, so a scale changes no field that is overridden.
    tree = _apply_scale(override(tree, scales, Study), str(path))
    tree = override(tree, own, Study)
    for assignment in settings:
        tree = _override_setting(tree, assignment)
    study = parse_settings(tree, Study)
    study._lines.update(tree.origins)  # noqa: SLF001 - lines are no setting: no dump holds them
    study._written_axes = written_axes  # noqa: SLF001 - as the lines
    return study.model_copy(update={"recipe": str(_recipe_path(study.recipe, path))})


def _written_axes(values: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the axes of a study's file and of each of its scales."""
    scales = values.get("scales") or {}
    parts = [values, *(scales.values() if isinstance(scales, Mapping) else ())]
    axes = [part.get("axes") for part in parts if isinstance(part, Mapping)]
    return tuple(_well_formed(one) for one in axes if isinstance(one, Mapping))


def _well_formed(axes: Mapping[str, Any]) -> dict[str, Any]:
    """Return axes without those that are not valid, which only matters if their scale is used."""
    return {
        name: values
        for name, values in axes.items()
        if isinstance(values, list)
        or (isinstance(values, dict) and all(isinstance(one, dict) for one in values.values()))
    }


def _current(tree: Tree, place: Place) -> Tree:
    """Return a study, or its scale at `place`, with the new names; warns of each old one."""
    values: dict[str, Any] = {}
    for key, value in tree.values.items():
        name = dotted(current_place((key,), tree.origin((*place, key))))
        values[name] = _current_part(Tree(value, tree.origins), (*place, key))
    return Tree(values, tree.origins)


def _current_part(part: Tree, place: Place) -> Any:
    """Return an entry of a study with the new names of settings.

    Values of the wrong type are returned unchanged: pydantic reports them later.
    """
    value, where, key = part.values, part.origin(place), place[-1]
    if key in {"cells", "skip"} and isinstance(value, list):
        return [_current_settings(cell, where) for cell in value]
    if key == "settings" and isinstance(value, Mapping):
        return current_assignments(value, where)
    if key == "axes" and isinstance(value, Mapping):
        return _current_axes(value, where)
    if key == "scales" and isinstance(value, Mapping):
        scales = {}
        for name, scale in value.items():
            scales[name] = _current_scale(Tree(scale, part.origins), (*place, name))
        return scales
    return value


def _current_scale(scale: Tree, place: Place) -> Any:
    return _current(scale, place).values if isinstance(scale.values, Mapping) else scale.values


def _current_axes(axes: Mapping[str, Any], where: str) -> dict[str, Any]:
    current: dict[str, Any] = {}
    for name, values in axes.items():
        if isinstance(values, Mapping):
            # The name of such an axis is free; the settings are in the sets under its labels.
            current[name] = {
                label: _current_settings(settings, where) for label, settings in values.items()
            }
        else:
            current.update(current_assignments({name: values}, where))
    return current


def _current_settings(settings: Any, where: str) -> Any:
    return current_assignments(settings, where) if isinstance(settings, Mapping) else settings


def _apply_scale(tree: Tree, file: str) -> Tree:
    """Return a study with the changes of its scale.

    Settings and axes of the scale are added to those of the study; `null` removes an axis.
    """
    values = tree.values
    scales, chosen = values.get("scales") or {}, values.get("scale")
    if not isinstance(scales, Mapping) or chosen is None:
        return tree
    where = tree.origin(("scale",)) or file
    if not isinstance(chosen, str) or chosen not in scales:
        if scales:
            known = did_you_mean(str(chosen), map(str, scales))
            problem = f"there is no scale called {chosen!r}; {known}"
        else:
            problem = f"{chosen!r} cannot be chosen, because the study has no scales; leave it out"
        msg = f"{where}: scale: {problem}"
        raise RecipeError(msg)
    if not isinstance(scales[chosen] or {}, Mapping):
        msg = f"{where}: scales.{chosen}: {shown(scales[chosen])} is not a mapping of settings"
        raise RecipeError(msg)
    scaled = dict(values)
    for key, value in (scales[chosen] or {}).items():
        unscaled = values.get(key) or {}
        if key in MERGED and isinstance(value, Mapping) and isinstance(unscaled, Mapping):
            scaled[key] = {**unscaled, **value}
        else:
            scaled[key] = value
    axes = scaled.get("axes")
    if "axes" in (scales[chosen] or {}) and isinstance(axes, Mapping):
        scaled["axes"] = {name: values for name, values in axes.items() if values is not None}
    origins = dict(tree.origins)
    for place, line in tree.origins.items():
        # Not the line of the scale itself, which would become that of the whole study.
        if place[:2] == ("scales", chosen) and len(place) > 2:
            origins[place[2:]] = line
    return Tree(scaled, origins, tree.problems)


def _override_setting(tree: Tree, assignment: Assignment) -> Tree:
    """Apply an override to an axis or, if there is no such axis, to the settings of all cells."""
    path = assignment.path.removeprefix("axes.").removeprefix("settings.")
    if path == SEED:
        msg = f"{assignment.where}: seed cannot be set in a study; write -o seeds=[0]"
        raise RecipeError(msg)
    value = current_assignments({path: assignment.value}, assignment.where)[path]
    axes, settings = tree.values.get("axes") or {}, tree.values.get("settings") or {}
    if not isinstance(axes, dict) or not isinstance(settings, dict):
        return tree  # not valid: `parse_settings` reports it
    is_axis = path in axes or assignment.path.startswith("axes.")
    place = ("axes" if is_axis else "settings", path)
    origins = {**tree.origins, place: assignment.where}
    if not is_axis:
        values = {**tree.values, "settings": {**settings, path: value}}
        return Tree(values, origins, tree.problems)
    for known in tree.origins:
        if known[:2] == place and len(known) > 2:
            del origins[known]
    chosen = value if isinstance(value, list | dict) else [value]
    if isinstance(axes.get(path), Mapping) and not isinstance(value, dict):
        # YAML reads a label such as 1 as a number, and a value of an axis can be a mapping.
        labels = {str(label): label for label in axes[path]}
        unknown = [str(label) for label in chosen if str(label) not in labels]
        if unknown:
            msg = (
                f"{assignment.where}: the axis {path} has no {unknown[0]!r}; "
                f"{did_you_mean(unknown[0], labels)}"
            )
            raise RecipeError(msg)
        chosen = {labels[str(label)]: axes[path][labels[str(label)]] for label in chosen}
    values = {**tree.values, "axes": {**axes, path: chosen}}
    return Tree(values, origins, tree.problems)


def _recipe_path(recipe: str, study: Path) -> Path:
    """Return the path of a study's recipe: relative to the study file, or else as it is written."""
    path = study.parent / recipe
    return path if path_exists(path) and not Path(recipe).is_absolute() else Path(recipe)
