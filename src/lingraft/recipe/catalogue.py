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
    """One line of the catalogue."""

    path: str
    kind: str
    default: str
    meaning: str


def catalogue() -> list[Setting]:
    """Return every setting of a recipe in order.

    Settings that occur a second time are replaced by a reference to the first place.
    """
    listed: dict[type[BaseModel], str] = {}
    fields = list(Recipe.model_fields)
    # `model` goes last: a model that is trained here has a corpus and a plan of its own, which
    # should refer to those of the recipe, not the other way round.
    last = [*(name for name in fields if name != "model"), "model"]
    rows = {name: list(_field(Recipe, name, "", listed)) for name in last}
    return [row for name in fields for row in rows[name]]


def chosen_settings(under: str = "") -> list[Setting]:
    """Return the settings under a path; raises `RecipeError` if there are none."""
    rows = catalogue()
    chosen = [
        row for row in rows if not under or row.path == under or row.path.startswith(f"{under}.")
    ]
    if not chosen:
        msg = f"there is no setting {under!r}; {did_you_mean(under, {row.path for row in rows})}"
        raise RecipeError(msg)
    return chosen


def settings_table(under: str = "") -> Table:
    """Return the settings under a path as a table; raises `RecipeError` if there are none."""
    table = Table(box=None, pad_edge=False)
    for title in ("setting", "type", "default", "meaning"):
        table.add_column(title, overflow="fold")
    for row in chosen_settings(under):
        table.add_row(row.path, row.kind, row.default, row.meaning)
    return table


def _settings(
    model: type[BaseModel], prefix: str, listed: dict[type[BaseModel], str]
) -> Iterator[Setting]:
    parent = next(
        (cls for cls in model.__mro__ if cls in listed and not issubclass(cls, Choice)), None
    )
    inherited = set(parent.model_fields) if parent else set()
    listed.setdefault(model, prefix.rstrip("."))
    for name in model.model_fields:
        if name not in inherited:
            yield from _field(model, name, prefix, listed)
    if parent is not None:
        yield Setting(f"{prefix}...", "", "", f"as under {listed[parent]}")


def _field(
    model: type[BaseModel], name: str, prefix: str, listed: dict[type[BaseModel], str]
) -> Iterator[Setting]:
    field = model.model_fields[name]
    path = f"{prefix}{field.alias or name}"
    yield Setting(path, kind_of(field.annotation), _default(field), field.description or "")
    for inner in models_in(field.annotation):
        yield from (
            _methods(inner, path, listed)
            if issubclass(inner, Choice)
            else _settings(inner, f"{path}.", listed)
        )


def _methods(
    base: type[Choice], path: str, listed: dict[type[BaseModel], str]
) -> Iterator[Setting]:
    if base in listed:
        yield Setting(f"{path}...", "", "", f"as under {listed[base]}")
        return
    listed[base] = path
    for method in methods_of(base):
        yield Setting(
            f"{path}: {method.name}", "method", "", (method.__doc__ or "").partition("\n")[0]
        )
        yield from _settings(method, f"{path}.{method.name}.", listed)


def kind_of(annotation: Any) -> str:
    """Return a type in words: `int | nothing`, `one of auto, keep, repair`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is typing.Annotated:
        return kind_of(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " | ".join("nothing" if part is type(None) else kind_of(part) for part in arguments)
    if origin in {list, tuple}:
        return f"list of {kind_of(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "method" if issubclass(annotation, Choice) else "settings"
    return getattr(annotation, "__name__", str(annotation)).lower()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Choice):
        return value.name
    plain = value is None or isinstance(value, BaseModel | tuple)
    return "" if plain else str(value)
