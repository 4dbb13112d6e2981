"""Turns pydantic's list of problems into one line: where, the setting's path, what is wrong."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from lingraft.errors import RecipeError, did_you_mean
from lingraft.recipe.tree import Place, Tree
from lingraft.registry import Choice


def recipe_error(error: ValidationError, model: type[BaseModel], tree: Tree) -> RecipeError:
    """Return the first problem as a `RecipeError`, with the number of the others.

    An unknown setting goes first: it is often a misspelt one, which is then missing, too.
    """
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place = _readable(problems[0]["loc"], model, tree)
    message = _describe(problems[0], settings_at(model, problems[0]["loc"][:-1], tree.values))
    others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    parts = [tree.origin(problems[0]["loc"]), ".".join(map(str, place)), message + others]
    return RecipeError(": ".join(part for part in parts if part))


def _readable(place: Place, model: type[BaseModel], tree: Tree) -> Place:
    """Return a place as the user wrote it: without branches of unions and implied list indexes."""
    kept: list[str | int] = []
    for index, part in enumerate(place):
        last = index == len(place) - 1
        names = {
            name
            for cls in settings_at(model, place[:index], tree.values)
            for name in setting_names(cls)
        }
        written = place[: index + 1] in tree.origins
        if written or (isinstance(part, str) and (part in names or (last and part.isidentifier()))):
            kept.append(part)
    return tuple(kept)


def _describe(problem: Any, classes: list[type[BaseModel]]) -> str:
    kind, seen, name = (
        problem["type"],
        problem["input"],
        str(problem["loc"][-1] if problem["loc"] else ""),
    )
    if kind == "extra_forbidden":
        known: set[str] = set()
        for cls in classes:
            known.update(setting_names(cls))
        return f"unknown setting; {did_you_mean(name, known)}"
    if kind == "missing":
        fields = [
            cls.model_fields[key]
            for cls in classes
            for key in cls.model_fields
            if name in {key, cls.model_fields[key].alias}
        ]
        purpose = f": {fields[0].description}" if fields and fields[0].description else ""
        return f"required, but not set{purpose}"
    text = problem["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return str(text)
    return f"{text[0].lower()}{text[1:]}, got {seen!r}"


def setting_names(model: type[BaseModel]) -> list[str]:
    """Return the names by which a recipe may set the fields of `model`."""
    extra = getattr(model, "more_names", None)
    return [
        *(field.alias or name for name, field in model.model_fields.items()),
        *(extra() if extra else []),
    ]


def settings_at(model: type[BaseModel], place: Place, values: Any) -> list[type[BaseModel]]:
    """Return the settings classes possible at `place`; for a choice, those that `values` names."""
    classes: list[type[BaseModel]] = [model]
    for part in place:
        values = _inside(values, part)
        if isinstance(part, str):
            fields = [
                field
                for cls in classes
                for name, field in cls.model_fields.items()
                if part in {name, field.alias}
            ]
            classes = [
                found for field in fields for found in models_in(field.annotation)
            ] or classes
            classes = [found for cls in classes for found in _chosen(cls, values)]
    return classes


def _chosen(cls: type[BaseModel], values: Any) -> list[type[BaseModel]]:
    if not issubclass(cls, Choice):
        return [cls]
    methods = list(methods_of(cls))
    named = [
        method for method in methods if isinstance(values, dict | str) and method.name in values
    ]
    return list(named or methods or [cls])


def methods_of(base: type[Choice]) -> Iterator[type[Choice]]:
    """Yield the methods that derive from a base class, those that recipes may name."""
    for cls in base.__subclasses__():
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
