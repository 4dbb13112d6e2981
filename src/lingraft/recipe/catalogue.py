"""The table of all settings of recipes and studies: path, type, default and meaning.

`lingraft settings`, the settings page of the docs and the suggestions of messages are made from it.
Every path that an override may set can be looked up, also one that leaves out what can be known.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from lingraft.recipe.fields import (
    field_named,
    item_type,
    method_named,
    methods_of,
    models_in,
    value_type,
)
from lingraft.recipe.kinds import kind_of
from lingraft.recipe.tree import Place
from lingraft.registry import Choice, Settings


@dataclass(frozen=True)
class Setting:
    """A setting, as `lingraft settings` lists it; `kind` is its type in words."""

    path: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Found:
    """What a path names: a field with its type, or a method."""

    path: str
    annotation: Any
    field: FieldInfo | None = None

    @property
    def setting(self) -> Setting:
        """The line of it in the table."""
        if self.field is None:
            meaning = (self.annotation.__doc__ or "").partition("\n")[0]
            return Setting(self.path, "method", "", meaning)
        kind = kind_of(self.annotation, self.field.metadata)
        return Setting(self.path, kind, _default(self.field), self.field.description or "")


def catalogue(model: type[Settings], path: str = "") -> list[Setting]:
    """Return every setting of a class of settings, in the order of its fields.

    A group of settings that occurs in several places is listed at the first; the other places refer
    to it ("as under target").
    """
    listed: dict[type[Settings], str] = {}
    prefix = f"{path}." if path else ""
    # `model` is visited last: a model that is trained here has a corpus and a plan of its own,
    # which should refer to those of the recipe, not the other way round.
    visited = sorted(model.model_fields, key=lambda name: name in {"model", "chat_vector"})
    by_field = {name: list(_field(model, name, prefix, listed)) for name in visited}
    settings: list[Setting] = []
    for name in model.model_fields:
        settings += by_field[name]
    return settings


@functools.cache
def listed_paths(model: type[Settings]) -> tuple[str, ...]:
    """Return the path of every setting that the catalogue lists, without references."""
    return tuple(
        setting.path for setting in catalogue(model) if setting.kind and ": " not in setting.path
    )


def below(found: Found) -> list[Setting]:
    """Return the line of what was found, and those of all settings in it."""
    settings = [found.setting]
    listed: dict[type[Settings], str] = {}
    if found.field is None:
        settings += _settings(found.annotation, f"{found.path}.", listed)
    else:
        settings += _inside(found.annotation, found.path, listed)
    return settings


def find(model: type[Settings], place: Place, path: str = "") -> list[Found]:
    """Return what a path names; several settings if methods share a name that is left out."""
    found = [Found(path, model)]
    for part in place:
        inner: list[Found] = []
        for outer in found:
            inner += _find_inside(outer, part)
        found = inner
    return found


def _find_inside(outer: Found, part: str | int) -> list[Found]:
    prefix = f"{outer.path}." if outer.path else ""
    item = item_type(outer.annotation)
    if isinstance(part, int):
        # An index is the entry itself; of settings that are no list, 0 is the only entry.
        inner = outer.annotation if item is None else item
        return [Found(f"{prefix}{part}", inner, outer.field)] if item or not part else []
    annotation = outer.annotation if item is None else item
    found: list[Found] = []
    for cls in models_in(annotation):
        if issubclass(cls, Choice) and not cls.__dict__.get("is_registered"):
            found += _find_method(cls, part, prefix)
        else:
            found += _find_field(cls, part, prefix)
    free = value_type(annotation)
    if free is not None and not found:
        found.append(Found(f"{prefix}{part}", free, outer.field))
    return found


def _find_method(base: type[Choice], part: str, prefix: str) -> list[Found]:
    """Return a method by its name, or the setting that several methods have."""
    if method := method_named(base, part):
        return [Found(f"{prefix}{part}", method)]
    found = []
    for method in methods_of(base):
        found += _find_field(method, part, f"{prefix}{method.name}.")
    return found


def _find_field(cls: type[Settings], part: str, prefix: str) -> list[Found]:
    if named := field_named(cls, part):
        return [Found(f"{prefix}{named[0]}", named[1].annotation, named[1])]
    if cls.short_settings and (short := _find_field(cls.short_settings, part, prefix)):
        return short
    found = []
    # Both matrices of the embeddings hold the same methods: one of them is enough here.
    for home in cls.homes(part, {})[:1]:
        path = f"{prefix}{part}"
        found += [Found(path, inner.annotation, inner.field) for inner in find(cls, home)]
    return found


def _settings(
    model: type[Settings], prefix: str, listed: dict[type[Settings], str]
) -> Iterator[Setting]:
    """Yield the settings of a class; those of a base class that is listed are only referred to."""
    parent = _listed_base(model, listed)
    inherited = set(parent.model_fields) if parent else set()
    listed.setdefault(model, prefix.rstrip("."))
    if model.short_settings:
        yield from _settings(model.short_settings, prefix, {})
    for name in model.model_fields:
        if name not in inherited:
            yield from _field(model, name, prefix, listed)
    if parent is not None:
        yield Setting(f"{prefix}...", "", "", f"as under {listed[parent]}")


def _listed_base(model: type[Settings], listed: dict[type[Settings], str]) -> type[Settings] | None:
    for cls in model.__mro__:
        # Every method derives from `Choice`, which holds no settings to refer to.
        if cls in listed and not issubclass(cls, Choice):
            return cls
    return None


def _field(
    model: type[Settings], name: str, prefix: str, listed: dict[type[Settings], str]
) -> Iterator[Setting]:
    field = model.model_fields[name]
    path = f"{prefix}{field.alias or name}"
    yield Found(path, field.annotation, field).setting
    inside = prefix.rstrip(".") if name == model.left_out else path
    yield from _inside(field.annotation, inside, listed)


def _inside(annotation: Any, path: str, listed: dict[type[Settings], str]) -> Iterator[Setting]:
    for inner in models_in(annotation):
        if issubclass(inner, Choice):
            yield from _methods(inner, path, listed)
        else:
            yield from _settings(inner, f"{path}.", listed)


def _methods(base: type[Choice], path: str, listed: dict[type[Settings], str]) -> Iterator[Setting]:
    if base in listed:
        yield Setting(f"{path}...", "", "", f"as under {listed[base]}")
        return
    listed[base] = path
    for method in methods_of(base):
        yield Found(f"{path}: {method.name}", method).setting
        yield from _settings(method, f"{path}.{method.name}.", listed)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Choice):
        return value.name
    # A group or a list of settings is described by the fields that are listed below it.
    has_no_text = value is None or isinstance(value, Settings | tuple)
    return "" if has_no_text else str(value)
