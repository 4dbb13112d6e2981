"""The type of a setting in words, with its bounds: `whole number above 0 or nothing`."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ByteSize

from lingraft.errors import either
from lingraft.recipe.fields import (
    item_type,
    members,
    metadata_of,
    methods_of,
    value_type,
    without_metadata,
)
from lingraft.registry import Choice, Settings

PLAIN = {
    str: "text",
    int: "whole number",
    float: "number",
    ByteSize: "size such as 10 MB",
    type(None): "nothing",
}
WITH_ARTICLE = ("whole number", "number", "size such as", "list", "mapping", "method")
PLURALS = {"whole number": "whole numbers", "number": "numbers", "mapping": "mappings"}


def kind_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type in words.

    >>> from pydantic import Field
    >>> kind_of(int | None, [Gt(0)]), kind_of(typing.Literal["auto", "keep"])
    ('whole number above 0 or nothing', 'auto or keep')
    >>> kind_of(tuple[int, ...])
    'list of whole numbers'
    """
    kinds: list[str] = []
    for member in members(annotation):
        kinds += _words(member) or [_kind(member, [*metadata, *metadata_of(member)])]
    return either(dict.fromkeys(kinds))


def _words(annotation: Any) -> list[str]:
    """Return the words for `bool`, `None` or a `Literal`, none for other types."""
    bare = without_metadata(annotation)
    if bare is bool:
        return ["true", "false"]
    if bare is type(None):
        return [PLAIN[bare]]
    if typing.get_origin(bare) is typing.Literal:
        return list(map(str, typing.get_args(bare)))
    return []


def _kind(annotation: Any, metadata: Sequence[Any]) -> str:
    bare = without_metadata(annotation)
    item = item_type(bare)
    if item is not None:
        kind = kind_of(item)
        return f"list, each entry {kind}" if kind.startswith("a ") else f"list of {_plural(kind)}"
    if value_type(bare) is not None or bare is dict:
        return "mapping"
    if isinstance(bare, type) and issubclass(bare, Choice):
        return "method"
    if isinstance(bare, type) and issubclass(bare, Settings):
        return bare.written or "mapping of settings"
    words = PLAIN.get(bare, "value")
    return words + _bounds(metadata) if bare in {int, float} else words


def _plural(kind: str) -> str:
    for one, several in PLURALS.items():
        if kind.startswith(one):
            return several + kind.removeprefix(one)
    return kind


def _bounds(metadata: Sequence[Any]) -> str:
    low = high = ""
    for item in metadata:
        if isinstance(item, Ge):
            low = f"{item.ge}"
        elif isinstance(item, Gt):
            low = f"above {item.gt}"
        elif isinstance(item, Le):
            high = f"{item.le}"
        elif isinstance(item, Lt):
            high = f"below {item.lt}"
    if low and high:
        if low[0].isdigit():
            return f" from {low} to {high}"
        return f" {low} and {high}" if high.startswith("below") else f" {low} and up to {high}"
    if high:
        return f" up to {high}"
    return f" {low}" if low.startswith("above") else f" of {low} or more" if low else ""


def what_to_give(annotation: Any, metadata: Sequence[Any]) -> str:
    """Return what a message asks for: `give a whole number of 0 or more, or auto`.

    >>> what_to_give(float, [Ge(0), Le(1)])
    'give a number from 0 to 1'
    >>> what_to_give(float, [Gt(0), Lt(1)]), what_to_give(float, [Gt(0), Le(1)])
    ('give a number above 0 and below 1', 'give a number above 0 and up to 1')
    >>> what_to_give(typing.Literal["auto"] | bool, [])
    'give auto, true or false'
    """
    if all(_words(member) for member in members(annotation)):
        return f"give {kind_of(annotation)}"
    kinds: list[str] = []
    for member in members(annotation):
        kind = kind_of(member, metadata)
        bare = without_metadata(member)
        if kind == "method":
            kind = f"a name or {{name: settings}}; known: {', '.join(names_of_methods(bare))}"
        elif kind == "mapping of settings":
            names = [field.alias or name for name, field in bare.model_fields.items()]
            kind = f"a mapping with its settings, such as {{{names[0]}: ...}}"
        elif kind.startswith(WITH_ARTICLE):
            kind = f"a {kind}"
        kinds.append(kind)
    return "give " + ", or ".join(dict.fromkeys(kinds))


def names_of_methods(base: type[Choice]) -> list[str]:
    """Return the names of the methods of a kind."""
    return [method.name for method in methods_of(base)]
