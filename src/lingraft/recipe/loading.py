"""From a file, or from the few things that have no default, to a `Recipe`; and back to YAML."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lingraft.corpus.files import is_matched
from lingraft.errors import RecipeError
from lingraft.recipe.problems import recipe_error
from lingraft.recipe.reading import Tree, dump, override, read_file
from lingraft.recipe.settings import Recipe
from lingraft.store import path_exists


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply dotted overrides (`vocabulary.size=10000`).

    A relative path in a recipe is looked for from the current directory, then beside the recipe. Raises `RecipeError`
    with the setting's full path and line.
    """
    tree = override(read_file(path), overrides)
    return parse_recipe(Tree(found_beside(tree.values, path.parent), tree.origins))


@dataclass(frozen=True)
class Given:
    """What a caller says of model and text, beside a recipe or in its place."""

    model: str | None = None
    language: str | None = None
    text: Sequence[str] = ()
    base_language: str | None = None
    base_text: Sequence[str] = ()

    def overrides(self) -> list[str]:
        """Return these as overrides of a recipe."""
        settings = {"model": self.model, "target.language": self.language, "target.corpus": list(self.text),
                    "replay.language": self.base_language, "replay.corpus": list(self.base_text)}
        return [assignment(setting, value) for setting, value in settings.items() if value]


def assignment(setting: str, value: Any) -> str:
    """Return an override that sets exactly this value: JSON is YAML, and quotes its strings."""
    return f"{setting}={json.dumps(value, ensure_ascii=False)}"


def chosen_recipe(path: Path | None, given: Given, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe file with what is given laid over it; without a file, the defaults around what is given.

    Raises `RecipeError` where model, language or text are named by neither.
    """
    if path is not None:
        return load_recipe(path, [*given.overrides(), *overrides])
    needed = {"--model": given.model, "--language": given.language, "--text": given.text}
    missing = " and ".join(option for option, value in needed.items() if not value)
    if missing or not given.model:
        msg = f"without a recipe, {missing} must be given; or name a recipe, like recipes/demo.yaml"
        raise RecipeError(msg)
    values: dict[str, Any] = {"name": f"{_plain(given.model)}-{{language}}", "model": given.model,
                              "target": {"language": given.language, "corpus": list(given.text)}}
    if given.base_text:
        values["replay"] = {"language": given.base_language or "en", "corpus": list(given.base_text)}
    return parse_recipe(override(Tree(values), overrides))


def parse_recipe(tree: Tree) -> Recipe:
    """Check a tree of settings; raises `RecipeError`, one line about the first problem."""
    try:
        return Recipe.model_validate(tree.values)
    except ValidationError as error:
        raise recipe_error(error, Recipe, tree) from None


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return every setting as plain JSON, defaults and methods' settings included."""
    values = recipe.model_dump(mode="json", by_alias=True)
    for role in ("target", "replay"):
        if values[role]:  # people look for the language first
            values[role] = {"language": values[role]["language"], **values[role]}
    if not values["also"]:
        del values["also"]
    return values


def recipe_yaml(recipe: Recipe) -> str:
    """Return a recipe file that gives the same recipe again, with every default written out."""
    head = "# Every setting of the run, defaults included. To run it again: lingraft adapt recipe.yaml\n"
    return head + dump(recipe_values(recipe))


def found_beside(value: Any, folder: Path) -> Any:
    """Return the tree with relative paths that exist only beside the recipe pointing there."""
    if isinstance(value, Mapping):
        return {key: found_beside(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [found_beside(inner, folder) for inner in value]
    if not isinstance(value, str) or not ({"/", "."} & set(value)) or "\n" in value or Path(value).is_absolute():
        return value
    beside = os.path.normpath(folder / value)
    return beside if not _there(value) and _there(beside) else value


def _there(path: str) -> bool:
    return path_exists(path) or is_matched(path)


def _plain(model: str) -> str:
    last = Path(model.partition("@")[0]).name or "model"
    return "".join(character if character.isascii() and (character.isalnum() or character in "._-") else "-"
                   for character in last).lstrip("._-") or "model"
