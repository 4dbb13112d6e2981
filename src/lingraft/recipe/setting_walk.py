"""Walks down to a setting, through the schema and through what was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from lingraft.recipe.fields import (
    field_named,
    item_type,
    metadata_of,
    methods_of,
    models_in,
    value_type,
)
from lingraft.recipe.tree import Place
from lingraft.registry import Choice, Settings


class SettingWalk:
    """A walk down to a setting, through the schema and through what was written.

    `place` is what was written of the way, and `written` the type of that; `absent` are the parts
    below it that were not written. `path` is `place` without the names that may be left out.
    `classes` may be the class of the settings at `place`; of a method, those that may be meant.
    """

    def __init__(self, annotation: Any, values: Any, metadata: list[Any] | None = None) -> None:
        self.node: Any = values
        self.place: Place = ()
        self.path: Place = ()
        self.absent: Place = ()
        self.classes = _classes(annotation, values)
        self.annotation: Any = annotation
        self.metadata = metadata or []
        self.written: tuple[Any, list[Any]] = (annotation, self.metadata)
        self.description = ""
        self._first_extra = 0
        self._may_leave_out = False

    def enter(self, part: str | int) -> None:
        """Go on to a part of a place that pydantic reports."""
        if isinstance(part, int):
            self._enter_entry(part + self._first_extra)
            self._first_extra = 0
            return
        if isinstance(self.node, list):
            self._enter_entry(0)  # of a list of targets, the first one is `target`
        targets = self.node.get("target") if isinstance(self.node, Mapping) else None
        if part == "extra_targets" and isinstance(targets, list) and part not in self.node:
            part, self._first_extra = "target", 1
        for cls in self.classes:
            if found := field_named(cls, part):
                self._enter_field(cls, found, part)
                return
        # Otherwise it is a key of a free mapping, an unknown setting, or the branch of a union.
        if self._descend(part):
            inner = value_type(self.annotation)
            self._type(inner, metadata_of(inner))

    def _enter_field(self, cls: type[Settings], found: tuple[str, FieldInfo], part: str) -> None:
        key, described = found
        if not self._descend(key) and not self._descend(part):
            method = cls.name if issubclass(cls, Choice) else ""
            is_named = not method or self.place[-1:] == (method,)
            self.absent = (key,) if is_named else (method, key)
        self.description = described.description or ""
        self._may_leave_out = key == cls.left_out
        self._type(described.annotation, list(described.metadata))

    def _enter_entry(self, index: int) -> None:
        if isinstance(self.node, list) and index < len(self.node):
            is_only = self._may_leave_out and len(self.node) == 1
            self.node, self.place = self.node[index], (*self.place, index)
            self.path = self.path[:-1] if is_only else (*self.path, index)
        inner = item_type(self.annotation)
        if inner is not None:
            self._type(inner, metadata_of(inner))

    def _descend(self, name: str) -> bool:
        """Go down to a key of what was written, also through the name of a method."""
        node = self.node
        if isinstance(node, Mapping) and name not in node and len(node) == 1:
            method, inner = next(iter(node.items()))
            if isinstance(inner, Mapping) and name in inner:
                node, self.place = inner, (*self.place, method)
                self.path = (*self.path, method)
        if not isinstance(node, Mapping) or name not in node:
            return False
        self.node, self.place, self.absent = node[name], (*self.place, name), ()
        self.path = (*self.path, name)
        return True

    def _type(self, annotation: Any, metadata: list[Any]) -> None:
        """Take over the type of the setting that was entered."""
        self.annotation, self.metadata = annotation, metadata
        if not self.absent:
            self.written = (annotation, metadata)
        # The settings around an unknown one stay known.
        if annotation is not None:
            self.classes = _classes(annotation, self.node)


def _classes(annotation: Any, values: Any) -> list[type[Settings]]:
    """Return the settings classes of a value; of a method, those that `values` names, or all."""
    classes: list[type[Settings]] = []
    for cls in models_in(annotation):
        if not issubclass(cls, Choice):
            classes.append(cls)
            continue
        methods = list(methods_of(cls))
        is_name = isinstance(values, Mapping | str)
        named = [method for method in methods if is_name and method.name in values]
        classes += named or methods
    return classes
