"""Checks of plain arguments, and errors that name arguments of Python as they are written there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

from lingraft.errors import LingraftError, RecipeError, one_line
from lingraft.recipe.fields import setting_names
from lingraft.recipe.overrides import Assignment
from lingraft.recipe.schema import MAX_SEED
from lingraft.registry import Settings
from lingraft.store import expanded


def check_number(value: Any, name: str, *, at_least: int) -> None:
    """Raise `RecipeError` for anything but a whole number of at least `at_least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < at_least:
        msg = f"{name}: {value!r} is no whole number of {at_least:,} or more; give such a number"
        raise RecipeError(msg)


def check_path(value: Any, name: str, what: str = "a path") -> None:
    """Raise `RecipeError` for anything but text or a path; `what` says in the message what to give.

    >>> check_path(3, "output")
    Traceback (most recent call last):
    ...
    lingraft.errors.RecipeError: output: of type int; give a path
    """
    if not isinstance(value, str | os.PathLike):
        msg = f"{name}: of type {type(value).__name__}; give {what}"
        raise RecipeError(msg)


def given_path(value: Any, name: str) -> Path:
    """Return a path with the home folder in place of `~`; raises `RecipeError` for other values."""
    check_path(value, name)
    return expanded(Path(value))


def given_store(store: Any) -> Path:
    """Return the folder of a store, `Path()` if none is named: `Runtime` then chooses one."""
    folder = given_path(store or "", "store")
    # The current folder, which has the same name as no folder.
    return folder.absolute() if store and folder == Path() else folder


def given_names(value: Any, name: str, what: str) -> list[str]:
    """Return names that may be given as one string; raises `RecipeError` for other values."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(one, str) for one in values):
        msg = f"{name}: of type {type(value).__name__}; give {what}, or a list of them"
        raise RecipeError(msg)
    return list(values)


def check_seed(seed: Any) -> None:
    """Raise `RecipeError` for anything but a number that seeds a generator of torch."""
    check_number(seed, "seed", at_least=0)
    if seed > MAX_SEED:
        msg = f"seed: {seed!r} is too large; give a number below 2^63"
        raise RecipeError(msg)


def assignments(values: Any, argument: str) -> list[Assignment]:
    """Return the settings of a mapping by dotted path; errors name `argument` and the path.

    Raises `RecipeError` for anything but a mapping of plain values.
    """
    if values is None:
        return []
    if not isinstance(values, Mapping):
        msg = f"{argument}: of type {type(values).__name__}; give a mapping {{'name': value}}"
        raise RecipeError(msg)
    found = []
    for name, value in values.items():
        where = f"{argument}[{name!r}]"
        if not isinstance(name, str) or not name.strip():
            msg = f"{where}: no name of a setting; give its dotted path"
            raise RecipeError(msg)
        found.append(Assignment(name.strip(), plain_value(value, where), where))
    return found


def plain_value(value: Any, where: str) -> Any:
    """Return a value as a recipe file holds it: a path is its text, a tuple or range is a list.

    Raises `RecipeError` for an object that no recipe can hold; `where` names it.
    """
    try:
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError) as error:
        msg = f"{where}: {one_line(error)}; give plain values"
        raise RecipeError(msg) from error


def _plain(value: object) -> Any:
    if isinstance(value, range):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    msg = f"an object of type {type(value).__name__} is no value of a setting"
    raise TypeError(msg)


@contextmanager
def argument_names(function: Callable[..., Any]) -> Iterator[None]:
    """Let errors name the arguments of `function` in place of the options of the commands.

    >>> def run(base_text=""): ...
    >>> with argument_names(run):
    ...     raise RecipeError("--base-text: missing; leave out --html")
    Traceback (most recent call last):
    ...
    lingraft.errors.RecipeError: base_text: missing; leave out --html
    """
    names = signature(function).parameters

    def renamed(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return name if name in names else option[0]

    try:
        yield
    except LingraftError as error:
        error.args = (re.sub(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)", renamed, str(error)),)
        raise


@contextmanager
def keyword_names(group: str, model: type[Settings]) -> Iterator[None]:
    """Let errors name the settings of a group by their keywords: `size`, not `vocabulary.size`.

    `group` is the path of the settings in a recipe. Only names of `model` are shortened, because a
    message may contain a file that is named like the group.

    >>> from lingraft.packing import PackingSettings
    >>> with keyword_names("packing", PackingSettings):
    ...     raise RecipeError("a/packing.layout: unreadable; packing.layout was read from it")
    Traceback (most recent call last):
    ...
    lingraft.errors.RecipeError: a/packing.layout: unreadable; layout was read from it
    """
    names = "|".join(map(re.escape, setting_names(model)))
    try:
        yield
    except LingraftError as error:
        pattern = rf"(?<![\w./-]){re.escape(group)}\.(?=(?:{names})\b)"
        error.args = (re.sub(pattern, "", str(error)),)
        raise
