"""Turns a validation error of pydantic into one line: file and line, setting, what is wrong."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lingraft.errors import RecipeError, did_you_mean
from lingraft.recipe.tree import Place, Tree, dotted
from lingraft.registry import Choice


def recipe_error(error: ValidationError, model: type[BaseModel], tree: Tree) -> RecipeError:
    """Return the first problem as a `RecipeError`, with the number of the others."""
    # An unknown setting goes first: it is often a misspelt one, which is then missing, too.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place = problems[0]["loc"]
    message = _describe(problems[0], settings_at(model, place[:-1], tree.values))
    others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    parts = (tree.origin(place), dotted(_readable(place, model, tree)), message + others)
    return RecipeError(": ".join(filter(None, parts)))


def _readable(place: Place, model: type[BaseModel], tree: Tree) -> Place:
    """Return a place as the user wrote it."""
    # Pydantic adds parts that no recipe has: the branch of a union ("tuple[str, ...]"), and index 0
    # for a value that stands for a list of one.
    kept: list[str | int] = []
    for index, part in enumerate(place):
        last = index == len(place) - 1
        names: set[str] = set()
        for cls in settings_at(model, place[:index], tree.values):
            names.update(setting_names(cls))
        written = place[: index + 1] in tree.origins
        if written or (isinstance(part, str) and (part in names or (last and part.isidentifier()))):
            kept.append(part)
    return tuple(kept)


def _describe(problem: Any, classes: list[type[BaseModel]]) -> str:
    """Say what is wrong with a setting; `classes` are the settings classes it may belong to."""
    kind, name = problem["type"], str(problem["loc"][-1] if problem["loc"] else "")
    if kind == "extra_forbidden":
        known: set[str] = set()
        for cls in classes:
            known.update(setting_names(cls))
        return f"unknown setting; {did_you_mean(name, known)}"
    if kind == "missing":
        fields = _fields_called(name, classes)
        purpose = f": {fields[0].description}" if fields and fields[0].description else ""
        return f"required, but not set{purpose}"
    text = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error":  # raised by lingraft, complete as it is
        return str(text)
    return f"{text[0].lower()}{text[1:]}, got {problem['input']!r}"


def _fields_called(name: str, classes: list[type[BaseModel]]) -> list[FieldInfo]:
    fields = []
    for cls in classes:
        for key, field in cls.model_fields.items():
            if name in {key, field.alias}:
                fields.append(field)
    return fields


def setting_names(model: type[BaseModel]) -> list[str]:
    """Return the names by which a recipe may set the fields of `model`."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    more_names = getattr(model, "more_names", None)
    return names + (more_names() if more_names else [])


def settings_at(model: type[BaseModel], place: Place, values: Any) -> list[type[BaseModel]]:
    """Return the settings classes that the mapping at `place` may have.

    Where a method is chosen, these are the classes of the methods that `values` names, or else of
    all methods.
    """
    classes: list[type[BaseModel]] = [model]
    for part in place:
        values = _inside(values, part)
        if isinstance(part, str):
            inner: list[type[BaseModel]] = []
            for field in _fields_called(part, classes):
                inner += models_in(field.annotation)
            possible: list[type[BaseModel]] = []
            for cls in inner or classes:
                possible += _possible_classes(cls, values)
            classes = possible
    return classes


def _possible_classes(cls: type[BaseModel], values: Any) -> list[type[BaseModel]]:
    if not issubclass(cls, Choice):
        return [cls]
    methods = list(methods_of(cls))
    named = []
    if isinstance(values, dict | str):
        named = [method for method in methods if method.name in values]
    return list(named or methods or [cls])


def methods_of(base: type[Choice]) -> Iterator[type[Choice]]:
    """Yield the classes derived from `base` whose names a recipe may use."""
    for cls in base.__subclasses__():
        # In its own __dict__: a subclass of a registered method is not registered by that.
        if cls.__dict__.get("is_registered"):
            yield cls
        yield from methods_of(cls)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the settings classes that an annotation mentions."""
    if (
        typing.get_origin(annotation) is None
        and isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
    ):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def _inside(values: Any, part: str | int) -> Any:
    if isinstance(values, dict):
        return values.get(part)
    if isinstance(values, list) and isinstance(part, int) and part < len(values):
        return values[part]
    return values if isinstance(part, int) else None
