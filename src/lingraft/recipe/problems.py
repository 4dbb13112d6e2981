"""Validates settings, and reports every problem in plain words, each with its line.

A message is `WHERE: SETTING: what is wrong; what to do`, one line for each problem. WHERE is the
file and line, or the override. SETTING is the path as the user wrote it. Pydantic reports the
places of the long form, so a `SettingWalk` through schema and values finds the place that was
written.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lingraft.errors import FEW_NAMES, RecipeError, either, shown
from lingraft.recipe.catalogue import listed_paths
from lingraft.recipe.fields import (
    plain,
    setting_names,
)
from lingraft.recipe.kinds import what_to_give
from lingraft.recipe.setting_walk import SettingWalk
from lingraft.recipe.tree import Place, Tree, dotted, place_of
from lingraft.registry import Settings

S = TypeVar("S", bound=Settings)

STUDY_SETTINGS = (
    "axes",
    "cells",
    "compare",
    "question",
    "recipe",
    "sample_cells",
    "sample_seed",
    "scale",
    "scales",
    "seeds",
    "settings",
    "skip",
)
"""The settings of a study that no recipe has: messages about them say where they belong."""

# What is wrong with a value, by the start of pydantic's name for the error; the longest one counts.
WRONG = {
    "int_from_float": "is not a whole number",
    "int": "is not a number",
    "float": "is not a number",
    "decimal": "is not a number",
    "finite_number": "is not a finite number",
    "bool": "is neither true nor false",
    "string_type": "is not text",
    "string_too_short": "is too short",
    "literal": "is not a value of this setting",
    "greater_than": "is too small",
    "less_than": "is too large",
    "too_short": "is empty",
    "byte_size": "is not a size",
    "tuple": "is not a list",
    "list": "is not a list",
    "dict": "is not a mapping",
    "mapping": "is not a mapping",
    "model": "does not fit here",
}


def parse_settings(tree: Tree, model: type[S]) -> S:
    """Validate a tree of settings; raises `RecipeError` with all problems, one per line."""
    try:
        parsed = model.model_validate(tree.values)
    except ValidationError as error:
        raise RecipeError(_together([*tree.problems, *_problems(error, model, tree)])) from None
    if tree.problems:
        raise RecipeError(_together(tree.problems))
    return parsed


def check_value(value: Any, annotation: Any, metadata: Sequence[Any], where: str) -> Any:
    """Return the value of one setting as pydantic reads it.

    Raises `RecipeError`, where `where` names the setting.
    """
    typed: Any = Annotated[(annotation, *metadata)] if metadata else annotation
    adapter: TypeAdapter[Any] = TypeAdapter(typed)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        walk = SettingWalk(annotation, value, list(metadata))
        texts = _messages(error, walk, Settings).values()
        raise RecipeError(_together(f"{where}: {text}" for text in texts)) from None


def _together(problems: Iterable[str]) -> str:
    lines = sorted(dict.fromkeys(problems), key=_line_number)
    if len(lines) == 1:
        return lines[0]
    return "\n".join([f"{len(lines)} problems", *(f"  {line}" for line in lines)])


def _line_number(message: str) -> int:
    """Return the line of a message, to sort by it; overrides come last."""
    found = re.match(r"[^:]*:(\d+): ", message)
    return int(found[1]) if found and not message.startswith("-o") else 10**9


@dataclass(frozen=True)
class _Problem:
    """A problem of pydantic, and the walk to the place where the setting was written."""

    kind: str
    message: str
    value: Any
    walk: SettingWalk

    @property
    def place(self) -> Place:
        """The place as it was written; of a missing setting, where it would be written."""
        return (*self.walk.place, *self._absent)

    @property
    def path(self) -> str:
        """The path in messages."""
        return dotted((*self.walk.path, *self._absent))

    @property
    def _absent(self) -> Place:
        return self.walk.absent if self.kind == "missing" else ()


def _problems(error: ValidationError, model: type[Settings], tree: Tree) -> list[str]:
    lines = []
    for place, text in _messages(error, SettingWalk(model, tree.values), model).items():
        lines.append(": ".join(filter(None, (tree.origin(place), text))))
    return lines


def _messages(
    error: ValidationError, start: SettingWalk, model: type[Settings]
) -> dict[Place, str]:
    """Return path and mistake for each place; suggestions are settings of `model`."""
    problems = []
    for found in error.errors():
        walk = copy.copy(start)
        for part in found["loc"]:
            walk.enter(part)
        message = found["msg"].removeprefix("Value error, ")
        problems.append(_Problem(found["type"], message, found["input"], walk))
    messages: dict[Place, str] = {}
    for problem in problems:
        # A union reports one error for each branch, and a long form repeats a value.
        if problem.place not in messages and not _is_said_by_another(problem, problems):
            text = _describe(problem, model)
            messages[problem.place] = f"{problem.path}: {text}" if problem.path else text
    return messages


def _is_said_by_another(problem: _Problem, problems: Sequence[_Problem]) -> bool:
    """Return whether another problem says more about the same mistake."""
    place = problem.place
    for other in problems:
        is_inside = len(other.place) > len(place) and other.place[: len(place)] == place
        # Of a union, the branch that was meant reports what is wrong inside.
        if is_inside and problem.kind not in {"value_error", "extra_forbidden", "missing"}:
            return True
        is_sibling = other.place[:-1] == place[:-1] and other.kind == "extra_forbidden"
        if problem.kind == "missing" and is_sibling and _is_near(other.place[-1], place[-1]):
            return True  # a misspelt setting is missing, too
    return False


def _is_near(word: str | int, other: str | int) -> bool:
    return bool(difflib.get_close_matches(str(word), [str(other)]))


def _describe(problem: _Problem, model: type[Settings]) -> str:
    """Say what is wrong with a setting, and what to do."""
    walk = problem.walk
    if problem.kind == "extra_forbidden":
        return _unknown(walk.path, walk.classes, model)
    if problem.kind == "missing":
        return f"required, but not set{f': {walk.description}' if walk.description else ''}"
    if problem.kind == "value_error":  # raised by lingraft, complete as it is
        return problem.message
    kinds = [kind for kind in WRONG if problem.kind.startswith(kind)]
    wrong = WRONG[max(kinds, key=len)] if kinds else "does not fit here"
    if isinstance(problem.value, str) and wrong == "is not a whole number":
        wrong = "is not a number"
    give = what_to_give(*walk.written)
    return f"{shown(plain(problem.value))} {wrong}; {give}"


def _unknown(place: Place, classes: Sequence[type[Settings]], model: type[Settings]) -> str:
    """Say that there is no such setting, with the three nearest paths."""
    *around, name = place
    of_recipe = "model" in model.model_fields  # and not a study, nor a part of one
    if of_recipe and place in {(own,) for own in (*STUDY_SETTINGS, "study")}:
        example = "seeds" if name == "study" else name
        return (
            "settings of a study are not part of a recipe; in the study file they are at the top, "
            f"and `lingraft study STUDY -o study.{example}=...` changes one"
        )
    known: set[str] = set()
    for cls in classes:
        known.update(setting_names(cls))
    prefix = f"{dotted(tuple(around))}." if around else ""
    near = [prefix + word for word in difflib.get_close_matches(str(name), sorted(known))]
    paths = listed_paths(model)
    # The same name elsewhere: the path around it was left out.
    elsewhere = [path for path in paths if path.rpartition(".")[2] == name]
    near += elsewhere
    near += difflib.get_close_matches(dotted(place), paths)
    nearest = list(dict.fromkeys(near))[:3]
    what = "unknown setting" if around or not elsewhere else "not a top-level setting"
    if nearest:
        return f"{what}; did you mean {either(nearest)}?"
    few = ", ".join(sorted(known)) if len(known) <= 3 * FEW_NAMES else ""
    listing = few or f"`lingraft settings {dotted(tuple(around))}` lists them".replace("  ", " ")
    return f"{what}; known: {listing}"


def unknown_setting(place: Place, model: type[Settings], prefix: str = "") -> str:
    """Return the message for a path that names no setting."""
    walk = SettingWalk(model, {})
    for part in place[:-1]:
        walk.enter(part)
    path = dotted((*place_of(prefix), *place)) if prefix else dotted(place)
    return f"{path}: {_unknown(place, walk.classes, model)}"
