"""Find and name the values in the fields of a record, which may be nested.

`metadata.language_score` is the field `language_score` of `metadata`. A field whose own name
contains a dot takes precedence over the nested field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def value_of(record: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field; raises `KeyError` if there is none.

    A field inside a null is null: parquet stores a missing mapping so.

    >>> value_of({"metadata": {"score": 0.9}, "a.b": 1, "empty": None}, "metadata.score")
    0.9
    >>> value_of({"a.b": 1}, "a.b"), value_of({"empty": None}, "empty.score")
    (1, None)
    """
    value: Any = record
    for part in [name] if name in record else name.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise KeyError(name)
        value = value[part]
    return value


def field_names(record: Mapping[str, Any]) -> list[str]:
    """Return the fields of a record; a mapping is listed as its fields (`translation.hi`)."""
    names = []
    for name, value in record.items():
        inner = [f"{name}.{part}" for part in value] if isinstance(value, Mapping) else []
        names += inner or [str(name)]
    return names


def kind_of_value(value: object) -> str:
    """Return the type of a JSON value in words."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
        bytes: "bytes",
        str: "a string",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
