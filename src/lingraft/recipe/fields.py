"""The fields and methods of settings classes, and the types inside annotations."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from lingraft.registry import Choice, Settings


def field_named(cls: type[Settings], name: str) -> tuple[str, FieldInfo] | None:
    """Return the key of a recipe and the field with this name or alias."""
    for key, field in cls.model_fields.items():
        if name in {key, field.alias}:
            return field.alias or key, field
    return None


def setting_names(cls: type[Settings]) -> list[str]:
    """Return the names by which a recipe may set the fields of a settings class."""
    names = [field.alias or name for name, field in cls.model_fields.items()]
    more_names = getattr(cls, "more_names", None)
    return names + (more_names() if more_names else [])


def methods_of(base: type[Choice]) -> Iterator[type[Choice]]:
    """Yield the classes derived from `base` whose names a recipe may use."""
    for cls in base.__subclasses__():
        # In its own __dict__: a subclass of a registered method is not registered by that.
        if cls.__dict__.get("is_registered"):
            yield cls
        yield from methods_of(cls)


def method_named(base: type[Choice], name: object) -> type[Choice] | None:
    """Return the method of a kind by its name."""
    return next((method for method in methods_of(base) if method.name == name), None)


def models_in(annotation: Any) -> Iterator[type[Settings]]:
    """Yield the settings classes that an annotation mentions."""
    is_plain = typing.get_origin(annotation) is None and isinstance(annotation, type)
    if is_plain and issubclass(annotation, Settings):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def members(annotation: Any) -> list[Any]:
    """Return the alternatives of a union; other annotations are their only alternative.

    >>> members(int | None)
    [<class 'int'>, <class 'NoneType'>]
    """
    bare = without_metadata(annotation)
    if typing.get_origin(bare) in {typing.Union, types.UnionType}:
        return list(typing.get_args(bare))
    return [annotation]


def item_type(annotation: Any) -> Any:
    """Return the type of the entries of a list, `None` if the annotation is no list."""
    for member in members(annotation):
        bare = without_metadata(member)
        if typing.get_origin(bare) in {list, tuple}:
            return typing.get_args(bare)[0]
    return None


def value_type(annotation: Any) -> Any:
    """Return the type of the values of a mapping with free keys, `None` if it is none."""
    for member in members(annotation):
        bare = without_metadata(member)
        origin = typing.get_origin(bare)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return typing.get_args(bare)[1]
    return None


def without_metadata(annotation: Any) -> Any:
    """Return the type that `Annotated` wraps."""
    if typing.get_origin(annotation) is typing.Annotated:
        return typing.get_args(annotation)[0]
    return annotation


def metadata_of(annotation: Any) -> list[Any]:
    """Return constraints and validators of an `Annotated` type."""
    found: list[Any] = []
    if typing.get_origin(annotation) is typing.Annotated:
        for item in typing.get_args(annotation)[1:]:
            found += item.metadata if isinstance(item, FieldInfo) else [item]
    return found


def read_short_form(value: Any, metadata: list[Any]) -> Any:
    """Return a value after the validators that read its short forms, as plain settings."""
    for item in metadata:
        if isinstance(item, BeforeValidator):
            value = item.func(value)  # type: ignore[call-arg]  # none of ours takes the info
    return plain(value)


def plain(value: Any) -> Any:
    """Return a settings object as the mapping that a recipe would hold, without defaults."""
    if isinstance(value, Choice):
        return {value.name: value.model_dump(mode="json", by_alias=True, exclude_unset=True)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def default_of(field: FieldInfo) -> Any:
    """Return the default of a field as plain settings, `None` if it has none."""
    if field.is_required():
        return None
    return plain(field.get_default(call_default_factory=True, validated_data={}))
