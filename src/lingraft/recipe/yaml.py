"""Reads YAML into a `Tree`, and writes YAML.

The tree remembers the file and line of each setting for error messages. Scalars follow the core
schema of YAML 1.2: `no` is a string (the language tag of Norwegian), not false, and `3e-4` is a
number. Tags are refused, and so are files and aliases with too many values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lingraft.errors import RecipeError
from lingraft.recipe.tree import Place, Tree

MAX_BYTES = 2**18
MAX_VALUES = 20_000
MAX_DEPTH = 24

MERGE = "tag:yaml.org,2002:merge"

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
}

MAX_DIGITS = 100
"""A longer number is a mistake, and stays text; Python itself refuses 4,300 digits."""

# PyYAML reads scalars by YAML 1.1. These are tried in order, integers before floats.
_CORE = (
    (re.compile(r"null|Null|NULL|~|"), lambda _text: None),
    (re.compile(r"true|True|TRUE"), lambda _text: True),
    (re.compile(r"false|False|FALSE"), lambda _text: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, base=0)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, base=0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)


def read_file(path: Path) -> Tree:
    """Read a YAML file; raises `RecipeError` with the line of what is not allowed in a recipe."""
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = (
            f"{path}: cannot be read ({error.strerror}); expected a recipe, a YAML file: "
            "`lingraft init` writes one, and a clone of lingraft has recipes/"
        )
        raise RecipeError(msg) from error
    return read_text(data, str(path))


def read_text(data: bytes, where: str) -> Tree:
    """Read the bytes of a recipe; `where` names them in messages."""
    if len(data) > MAX_BYTES:
        msg = (
            f"{where}: {len(data):,} bytes; a recipe holds settings, at most {MAX_BYTES:,} "
            "bytes: name files instead"
        )
        raise RecipeError(msg)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{where}: not UTF-8 at byte {error.start}; save the recipe as UTF-8"
        raise RecipeError(msg) from error
    reader = _Reader(where)
    values = reader.value(_compose(text, where), ())
    if not isinstance(values, dict):
        msg = (
            f"{where}: a recipe is a mapping of settings (`name: value` lines), got "
            f"{type(values).__name__}"
        )
        raise RecipeError(msg)
    return Tree(values, {**reader.origins, (): where})


def read_value(text: str, where: str) -> Any:
    """Read the value of an override, which is YAML; `where` names it in messages."""
    return _Reader(where).value(_compose(text, where), ())


def dump(values: Mapping[str, Any]) -> str:
    """Return YAML that `read_text` reads back as the same values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _compose(text: str, where: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.MarkedYAMLError, yaml.reader.ReaderError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and not where.startswith("-o") else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "unreadable")
        msg = f"{where}{line}: not YAML: {problem}"
        raise RecipeError(msg) from error
    except RecursionError as error:
        msg = f"{where}: nested too deeply for a recipe"
        raise RecipeError(msg) from error


class _Reader:
    """Converts the nodes of a YAML document into values, and stores the line of each."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.origins: dict[Place, str] = {}
        self._count = 0

    def value(self, node: yaml.Node | None, place: Place) -> Any:
        if node is None:
            return None
        here = self._here(node)
        # Nested aliases expand a small file to millions of values, so values are counted here.
        self._count += 1
        if self._count > MAX_VALUES or len(place) > MAX_DEPTH:
            msg = (
                f"{here}: more than {MAX_VALUES:,} values or {MAX_DEPTH} levels; name files "
                "instead, and use fewer aliases"
            )
            raise RecipeError(msg)
        self.origins[place] = here
        if node.tag not in _PLAIN_TAGS:
            msg = f"{here}: the tag {node.tag!r} is not allowed in a recipe; remove it"
            raise RecipeError(msg)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        # A scalar with a style is quoted or a block of text: always a string.
        is_unquoted = isinstance(node, yaml.ScalarNode) and node.style is None
        return scalar(node.value) if is_unquoted else node.value

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                msg = (
                    f"{self._here(key_node)}: the name of a setting is a word, got a {key_node.id}"
                )
                raise RecipeError(msg)
            if key_node.tag == MERGE:
                msg = (
                    f"{self._here(key_node)}: merge keys (<<) are no part of YAML 1.2; write the "
                    "settings out, or repeat one value with an alias"
                )
                raise RecipeError(msg)
            if key in values:
                msg = f"{self._here(key_node)}: {key!r} is set twice; remove one of the two"
                raise RecipeError(msg)
            values[key] = self.value(value_node, (*place, key))
            # The line of the name, not of its value, which may start some lines below.
            self.origins[(*place, key)] = self._here(key_node)
        return values

    def _here(self, node: yaml.Node) -> str:
        if self.where.startswith("-o"):  # an override has one line
            return self.where
        return f"{self.where}:{node.start_mark.line + 1}"


def scalar(text: str) -> str | int | float | bool | None:
    """Return the value of an unquoted scalar by the core schema of YAML 1.2.

    >>> [scalar(text) for text in ("no", "3e-4", "10000", "true", "~")]
    ['no', 0.0003, 10000, True, None]
    """
    for pattern, convert in _CORE:
        if pattern.fullmatch(text):
            return convert(text) if len(text) <= MAX_DIGITS else text
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes every string that YAML 1.1 or 1.2 would read as something else; writes no aliases."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML itself quotes what YAML 1.1 would misread.
    style = "'" if not isinstance(scalar(text), str) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_float(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    text = repr(number)  # 1e-05, which YAML 1.1 would read as a string without the point
    text = text.replace("e", ".0e") if "e" in text and "." not in text else text
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(str, _represent_string)
_Dumper.add_representer(float, _represent_float)
