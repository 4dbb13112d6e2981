"""The table of all settings of a recipe: path, type, default and meaning, read from the fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.table import Table

from lingraft.errors import RecipeError, did_you_mean
from lingraft.recipe.problems import methods_of, models_in
from lingraft.recipe.schema import Recipe
from lingraft.registry import Choice


@dataclass(frozen=True)
class Setting:
    """A setting of a recipe, as `lingraft settings` lists it; `kind` is its type in words."""

    path: str
    kind: str
    default: str
    meaning: str


def catalogue() -> list[Setting]:
    """Return every setting of a recipe, in the order of its fields.

    A group of settings that occurs in several places is listed at the first; the other places refer
    to it ("as under target").
    """
    listed: dict[type[BaseModel], str] = {}
    fields = list(Recipe.model_fields)
    # `model` is visited last: a model that is trained here has a corpus and a plan of its own,
    # which should refer to those of the recipe, not the other way round.
    visited = sorted(fields, key=lambda name: name == "model")
    by_field = {name: list(_field(Recipe, name, "", listed)) for name in visited}
    settings: list[Setting] = []
    for name in fields:
        settings += by_field[name]
    return settings


def chosen_settings(under: str = "") -> list[Setting]:
    """Return the settings under a path; raises `RecipeError` if there are none."""
    paths, chosen = set(), []
    for setting in catalogue():
        paths.add(setting.path)
        if not under or setting.path == under or setting.path.startswith(f"{under}."):
            chosen.append(setting)
    if not chosen:
        msg = f"there is no setting {under!r}; {did_you_mean(under, paths)}"
        raise RecipeError(msg)
    return chosen


def settings_table(under: str = "") -> Table:
    """Return the settings under a path as a table; raises `RecipeError` if there are none."""
    table = Table(box=None, pad_edge=False)
    for title in ("setting", "type", "default", "meaning"):
        table.add_column(title, overflow="fold")
    for setting in chosen_settings(under):
        table.add_row(setting.path, setting.kind, setting.default, setting.meaning)
    return table


def _settings(
    model: type[BaseModel], prefix: str, listed: dict[type[BaseModel], str]
) -> Iterator[Setting]:
    """Yield the settings of a class; those of a base class that is listed are only referred to."""
    parent = _listed_base(model, listed)
    inherited = set(parent.model_fields) if parent else set()
    listed.setdefault(model, prefix.rstrip("."))
    for name in model.model_fields:
        if name not in inherited:
            yield from _field(model, name, prefix, listed)
    if parent is not None:
        yield Setting(f"{prefix}...", "", "", f"as under {listed[parent]}")


def _listed_base(
    model: type[BaseModel], listed: dict[type[BaseModel], str]
) -> type[BaseModel] | None:
    for cls in model.__mro__:
        # Every method derives from `Choice`, which holds no settings to refer to.
        if cls in listed and not issubclass(cls, Choice):
            return cls
    return None


def _field(
    model: type[BaseModel], name: str, prefix: str, listed: dict[type[BaseModel], str]
) -> Iterator[Setting]:
    field = model.model_fields[name]
    path = f"{prefix}{field.alias or name}"
    yield Setting(path, kind_of(field.annotation), _default(field), field.description or "")
    for inner in models_in(field.annotation):
        if issubclass(inner, Choice):
            yield from _methods(inner, path, listed)
        else:
            yield from _settings(inner, f"{path}.", listed)


def _methods(
    base: type[Choice], path: str, listed: dict[type[BaseModel], str]
) -> Iterator[Setting]:
    if base in listed:
        yield Setting(f"{path}...", "", "", f"as under {listed[base]}")
        return
    listed[base] = path
    for method in methods_of(base):
        meaning = (method.__doc__ or "").partition("\n")[0]
        yield Setting(f"{path}: {method.name}", "method", "", meaning)
        yield from _settings(method, f"{path}.{method.name}.", listed)


def kind_of(annotation: Any) -> str:
    """Return a type in words: `int | nothing`, `one of auto, keep, repair`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is typing.Annotated:
        return kind_of(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " | ".join(map(kind_of, arguments))
    if origin in {list, tuple}:
        return f"list of {kind_of(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "method" if issubclass(annotation, Choice) else "settings"
    name = getattr(annotation, "__name__", str(annotation)).lower()
    return "nothing" if annotation is type(None) else name


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Choice):
        return value.name
    # A group or a list of settings is described by the fields that are listed below it.
    has_no_text = value is None or isinstance(value, BaseModel | tuple)
    return "" if has_no_text else str(value)
