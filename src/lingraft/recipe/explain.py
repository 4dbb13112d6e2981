"""Explains settings: what `lingraft settings` prints for a path, and for a path with a value."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from lingraft.errors import RecipeError
from lingraft.recipe.catalogue import Found, Setting, below, catalogue, find
from lingraft.recipe.fields import method_named, models_in, plain
from lingraft.recipe.old_names import current_place
from lingraft.recipe.problems import check_value, unknown_setting
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tree import place_of
from lingraft.recipe.yaml import dump, read_value
from lingraft.registry import Choice, Settings


def explained(
    asked: str = "", others: Mapping[str, type[Settings]] | None = None
) -> tuple[list[Setting], str]:
    """Return the settings under a path, and how a value is read if `asked` is `path=value`.

    The first part of a path may be a key of `others`, which are settings outside a recipe. Raises
    `RecipeError` for an unknown path, or a value that the setting does not accept.
    """
    path, has_value, text = asked.partition("=")
    path = path.strip().strip(".")
    first, _, rest = path.partition(".")
    models = dict(others or {})
    if not path and has_value:
        msg = f"{asked}: no setting before `=`; write its path, as in training.budget=4MB"
        raise RecipeError(msg)
    if not path:
        settings = catalogue(Recipe)
        for name, model in models.items():
            settings += catalogue(model, name)
        return settings, ""
    model, prefix = (models[first], first) if first in models else (Recipe, "")
    place = place_of(rest if prefix else path) if not prefix or rest else ()
    if not place and not has_value:
        return catalogue(model, prefix), ""
    place = current_place(place, path)
    found = find(model, place, prefix)
    if not found:
        raise RecipeError(unknown_setting(place, model, prefix))
    if has_value:
        return _explain_value(found, text, path)
    settings = []
    for one in found:
        settings += below(one)
    return settings, ""


def _explain_value(found: list[Found], text: str, path: str) -> tuple[list[Setting], str]:
    """Return the lines of a setting or of the method that the value names, and what it is."""
    value = read_value(text, f"{path}={text}")
    settings, read_as = [], ""
    for one in found:
        name = next(iter(value), None) if isinstance(value, dict) else value
        kinds = [cls for cls in models_in(one.annotation) if issubclass(cls, Choice)]
        chosen = [method for cls in kinds if (method := method_named(cls, name))]
        methods = [Found(f"{one.path}.{method.name}", method) for method in chosen]
        for method_found in methods:
            settings += below(method_found)
        if not methods:
            settings.append(one.setting)
        if methods and not isinstance(value, dict):
            continue  # a method may have settings that must be given
        metadata = one.field.metadata if one.field else []
        read = plain(check_value(value, one.annotation, metadata, f"{path}={text}"))
        written = dump({path: read}) if isinstance(read, dict) else f"{path}: {read}"
        read_as = f"{path}={text} is read as\n{written.rstrip()}"
    return settings, read_as


def settings_table(settings: list[Setting]) -> Table:
    """Return settings as a table for the terminal."""
    table = Table(box=None, pad_edge=False)
    for title in ("setting", "type", "default", "meaning"):
        table.add_column(title, overflow="fold")
    for setting in settings:
        table.add_row(setting.path, setting.kind, setting.default, setting.meaning)
    return table
