"""Sets single settings of a recipe by their dotted paths, as `-o` and the axes of studies do.

A path is the names on the way to a setting, joined by dots. Every path that `lingraft settings`
lists may be set. What can be known may be left out: the index of an entry of a list with one entry
(`target.corpus.path`), `phases.0` of a plan with one phase, the name of the chosen method
(`training.strategy.rank`). The name of another method chooses that method. Short forms on the way
are written out: `corpus: hi.txt` becomes `corpus: [{path: hi.txt}]` if a setting in it is set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from lingraft.errors import RecipeError, shown
from lingraft.progress import warn
from lingraft.recipe.fields import (
    default_of,
    field_named,
    item_type,
    members,
    metadata_of,
    method_named,
    methods_of,
    models_in,
    plain,
    read_short_form,
    value_type,
)
from lingraft.recipe.old_names import current_place, current_tree, current_value
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tree import Place, Tree, dotted, place_of
from lingraft.recipe.yaml import read_value
from lingraft.registry import Choice, Settings

MAX_SHOWN = 200
"""Characters of an override that a message shows."""


@dataclass(frozen=True)
class Assignment:
    """A setting to change: its path, its value, and where this was written."""

    path: str
    value: Any
    where: str


def parse_assignment(text: str) -> Assignment:
    """Read `path=value`; the value is YAML.

    >>> parse_assignment("vocabulary.size=10000")
    Assignment(path='vocabulary.size', value=10000, where='-o vocabulary.size=10000')
    """
    path, equals, value = text.partition("=")
    # A long value, such as a whole list of sources, is not repeated in each message about it.
    where = f"-o {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '...'}"
    if not equals or not path.strip():
        msg = f"{where}: an override is written as path=value, for example -o vocabulary.size=10000"
        raise RecipeError(msg)
    return Assignment(path.strip(), read_value(value, where), where)


def override(
    tree: Tree,
    assignments: Sequence[str | Assignment],
    model: type[Settings] = Recipe,
) -> Tree:
    """Return the tree with the assignments applied, one after another.

    Old names of settings are replaced by the new ones, each with a warning. An assignment that fits
    nowhere becomes a problem of the tree, which `parse_recipe` reports with all others.

    >>> override(Tree({"training": {"budget": "1 MB"}}), ["training.strategy.lora.rank=4"]).values
    {'training': {'phases': [{'budget': '1 MB', 'strategy': {'lora': {'rank': 4}}}]}}
    """
    tree = current_tree(tree)
    problems = list(tree.problems)
    values, origins = tree.values, tree.origins
    for assignment in assignments:
        try:
            given = parse_assignment(assignment) if isinstance(assignment, str) else assignment
            place = current_place(place_of(given.path), given.where)
            value = current_value(given.value, place, given.where)
            setter = _Setter(dict(origins), given.where, value)
            values, origins = setter.settings(model, values, (), place), setter.origins
        except RecipeError as error:
            problems.append(str(error))
    return Tree(values, origins, tuple(problems))


class _Setter:
    """Sets one value; every method returns a new value for the node that it was given."""

    def __init__(self, origins: dict[Place, str], where: str, value: Any) -> None:
        self.origins, self.where, self.value = origins, where, value

    def node(self, annotation: Any, raw: Any, place: Place, parts: Place) -> Any:
        """Set the value at `parts` below a node of the given type."""
        if not parts:
            return self._written(place)
        if isinstance(raw, list) or item_type(annotation) is not None:
            entries = self._read(raw, metadata_of(annotation)) if raw is not None else []
            inner = item_type(annotation)
            if isinstance(parts[0], int) or inner is not None:
                return self._entry(inner or annotation, entries, place, parts)
        for member in members(annotation):
            for cls in models_in(member):
                if issubclass(cls, Choice):
                    return self._method(cls, self._read(raw, metadata_of(member)), place, parts)
                return self._group(cls, raw, annotation, place, parts)
        return self._free(value_type(annotation), raw, place, parts)

    def settings(self, cls: type[Settings], raw: Any, place: Place, parts: Place) -> dict[str, Any]:
        """Set the value at `parts` in a mapping of settings."""
        name = str(parts[0])
        found = field_named(cls, name)
        homes = () if found else cls.homes(name, raw if isinstance(raw, Mapping) else {})
        values = self._around(cls, raw, place, name, is_long=bool(found or homes))
        for home in homes:
            # Without its index: a list with several entries refuses that.
            names = tuple(part for part in home if isinstance(part, str))
            values = self.settings(cls, values, place, (*names, *parts[1:]))
        if homes:
            return values
        values = self._without_replaced(cls, values, place, parts)
        if found is None:
            free: dict[str, Any] = self._free(None, values, place, parts)
            return free
        key, field = found
        here = (*place, key)
        if key not in values:
            self.origins[here] = self.where
        before = values.get(key, default_of(field))
        if parts[1:]:
            before = self._read(before, field.metadata)
        values[key] = self.node(field.annotation, before, here, parts[1:])
        return values

    def _around(
        self, cls: type[Settings], raw: Any, place: Place, name: str, *, is_long: bool
    ) -> dict[str, Any]:
        """Return the settings among which `name` is set: in their long form, or as written."""
        # A name that stays on this level, like the budget next to the name of a plan.
        if isinstance(raw, Mapping) and not is_long:
            return dict(raw)
        # A name of short forms alone, like that of a plan, replaces another short form.
        if isinstance(raw, str) and cls.short_settings and name in cls.short_settings.model_fields:
            self._forget(place)
            return {}
        return self._long(cls, raw, place)

    def _without_replaced(
        self, cls: type[Settings], values: dict[str, Any], place: Place, parts: Place
    ) -> dict[str, Any]:
        """Remove what the new value replaces, and warn of what is lost with it."""
        value = None if parts[1:] else self.value
        kept, lost = cls.without_replaced(str(parts[0]), value, values)
        for key in kept.keys() - values.keys():
            for home in cls.homes(key, {}):
                self._move((*place, *home), (*place, key))
        for key in values.keys() - kept.keys():
            self._forget((*place, key))
        if lost:
            names = ", ".join(dotted((*place, key)) for key in lost)
            warn(f"{self.where}: replaces {names}, whose values in the recipe have no effect")
        return kept

    def _group(
        self, cls: type[Settings], raw: Any, annotation: Any, place: Place, parts: Place
    ) -> Any:
        """Set a setting of a group; one group stands for a list of one."""
        if parts[0] == 0:
            return self.node(annotation, raw, place, parts[1:])
        if isinstance(parts[0], int):
            self._refuse(f"{dotted(place)} is not a list of settings; there is no {parts[0]}")
        if isinstance(raw, list) and not isinstance(cls.long_form(raw), Mapping):
            return self._entry(cls, raw, place, parts)
        # Next to a plain value or null, the settings start from their defaults.
        is_scalar = not isinstance(raw, Mapping | str) and len(members(annotation)) > 1
        return self.settings(cls, {} if raw is None or is_scalar else raw, place, parts)

    def _method(self, base: type[Choice], raw: Any, place: Place, parts: Place) -> Any:
        """Set the name of a method or a setting of the chosen one."""
        if isinstance(raw, Mapping) and len(raw) == 1:
            name, settings = next(iter(raw.items()))
        else:
            name, settings = raw, {}
        switched = method_named(base, parts[0])
        if switched:
            if switched.name != name:
                self._forget(place)
                settings = {}
            name, parts = switched.name, parts[1:]
        cls = method_named(base, name)
        if cls is None:
            known = ", ".join(method.name for method in methods_of(base))
            self._refuse(f"{dotted(place)}: no method is chosen yet; choose one of {known}")
        here = (*place, str(name))
        inner = self._written(here) if not parts else self.settings(cls, settings, here, parts)
        return {name: {} if inner is None else inner}

    def _entry(self, inner: Any, entries: Any, place: Place, parts: Place) -> Any:
        """Set the value in an entry of a list; the index may be left out if there is only one."""
        if not isinstance(entries, list):
            entries = [entries]
            self._move(place, (*place, 0))
        index = parts[0] if isinstance(parts[0], int) else 0
        if not isinstance(parts[0], int):
            if len(entries) > 1:
                path = dotted(place)
                self._refuse(
                    f"{path} has {len(entries)} entries; name one of them: "
                    f"{path}.0.{dotted(parts)} to {path}.{len(entries) - 1}.{dotted(parts)}"
                )
            parts = (0, *parts)
        if index > len(entries):
            self._refuse(
                f"the list {dotted(place)} has {len(entries)} entries, counted from 0; there is no "
                f"{index}"
            )
        before = entries[index] if index < len(entries) else None
        if parts[1:] and before is not None:
            before = self._read(before, metadata_of(inner))
        after = self.node(inner, before, (*place, index), parts[1:])
        return [*entries[:index], after, *entries[index + 1 :]]

    def _free(self, inner: Any, raw: Any, place: Place, parts: Place) -> Any:
        """Set the value in a mapping with free keys, or where the schema knows no setting."""
        if isinstance(raw, list) and isinstance(parts[0], int):
            return self._entry(inner, raw, place, parts)
        if raw is not None and not isinstance(raw, Mapping):
            path = dotted(place)
            self._refuse(
                f"{path} is {shown(raw)}, which has no settings inside; override {path} as a whole"
            )
        values, key = dict(raw or {}), str(parts[0])
        if key not in values:
            self.origins[(*place, key)] = self.where
        before = values.get(key)
        if parts[1:] and before is not None:
            before = self._read(before, metadata_of(inner))
        values[key] = self.node(inner, before, (*place, key), parts[1:])
        return values

    def _long(self, cls: type[Settings], raw: Any, place: Place) -> dict[str, Any]:
        """Return settings in their long form; what was moved keeps the line that it was on."""
        try:
            values = plain(cls.long_form(raw))
        except ValueError as error:
            # pydantic reports a mapping that cannot be read, with its line.
            if not isinstance(raw, Mapping):
                self._refuse(f"{dotted(place)}: {error}")
            values = raw
        if not isinstance(values, Mapping):
            path = dotted(place)
            self._refuse(
                f"{path} is {shown(raw)}, which has no settings inside; override {path} as a whole"
            )
        moved = [key for key in raw if key not in values] if isinstance(raw, Mapping) else []
        for key in moved:
            for home in cls.homes(key, raw):
                self._move((*place, key), (*place, *home))
        return dict(values)

    def _read(self, raw: Any, metadata: list[Any]) -> Any:
        if isinstance(raw, Mapping) or raw is None:
            return raw
        try:
            return read_short_form(raw, metadata)
        except (ValueError, KeyError):
            return raw  # pydantic reports it, with its line

    def _written(self, place: Place) -> Any:
        self._forget(place)
        self.origins[place] = self.where
        return self.value

    def _forget(self, place: Place) -> None:
        for known in [known for known in self.origins if known[: len(place)] == place]:
            del self.origins[known]

    def _move(self, old: Place, new: Place) -> None:
        moved = {}
        for place, origin in self.origins.items():
            if place[: len(old)] == old:
                moved[(*new, *place[len(old) :])] = origin
        self.origins.update(moved)

    def _refuse(self, message: str) -> NoReturn:
        msg = f"{self.where}: {message}"
        raise RecipeError(msg)
