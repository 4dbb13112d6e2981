"""Reads recipes from files or command-line options; writes complete or commented recipes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lingraft.corpus.text_files import is_matched
from lingraft.errors import RecipeError
from lingraft.recipe.old_names import current_tree
from lingraft.recipe.problems import recipe_error
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tree import Tree
from lingraft.recipe.yaml import dump, override, read_file, read_text
from lingraft.store import path_exists


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply dotted overrides (`vocabulary.size=10000`).

    A relative path in a recipe is relative to the current directory, or else to the recipe file.
    Raises `RecipeError` with the full path of the setting and its line.
    """
    tree = override(read_file(path), overrides)
    return parse_recipe(Tree(resolve_paths(tree.values, path.parent), tree.origins))


@dataclass(frozen=True)
class Given:
    """Model and text given on the command line, in addition to a recipe or instead of one."""

    model: str | None = None
    language: str | None = None
    text: Sequence[str] = ()
    base_language: str | None = None
    base_text: Sequence[str] = ()

    def overrides(self) -> list[str]:
        """Return these as overrides of a recipe."""
        settings = {
            "model": self.model,
            "target.language": self.language,
            "target.corpus": list(self.text),
            "replay.language": self.base_language,
            "replay.corpus": list(self.base_text),
        }
        return [assignment(setting, value) for setting, value in settings.items() if value]


def assignment(setting: str, value: Any) -> str:
    """Return an override that sets exactly this value: JSON is YAML, and quotes its strings."""
    return f"{setting}={json.dumps(value, ensure_ascii=False)}"


def chosen_recipe(path: Path | None, given: Given, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a file with overrides; without a file, the default recipe for `given`.

    Raises `RecipeError` if model, language or text is missing.
    """
    if path is not None:
        return load_recipe(path, [*given.overrides(), *overrides])
    needed = {"--model": given.model, "--language": given.language, "--text": given.text}
    missing = " and ".join(option for option, value in needed.items() if not value)
    if missing or not given.model:
        msg = f"without a recipe, {missing} must be given; or name a recipe, like recipes/demo.yaml"
        raise RecipeError(msg)
    values: dict[str, Any] = {
        "name": f"{_plain(given.model)}-{{language}}",
        "model": given.model,
        "target": {"language": given.language, "corpus": list(given.text)},
    }
    if given.base_text:
        values["replay"] = {
            "language": given.base_language or "en",
            "corpus": list(given.base_text),
        }
    return parse_recipe(override(Tree(values), overrides))


def parse_recipe(tree: Tree) -> Recipe:
    """Check a tree of settings; warns of old names, raises `RecipeError` with the first problem."""
    tree = current_tree(tree)
    try:
        return Recipe.model_validate(tree.values)
    except ValidationError as error:
        raise recipe_error(error, Recipe, tree) from None


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return every setting as plain JSON, defaults and methods' settings included."""
    values = recipe.model_dump(mode="json", by_alias=True)
    for role in ("target", "replay"):
        if values[role]:  # the language comes first, because readers look for it
            values[role] = {"language": values[role]["language"], **values[role]}
    if not values["extra_targets"]:
        del values["extra_targets"]
    return values


def recipe_yaml(recipe: Recipe) -> str:
    """Return a recipe file that gives the same recipe again, with every default written out."""
    head = (
        "# Every setting of the run, defaults included. To run it again: lingraft adapt "
        "recipe.yaml\n"
    )
    return head + dump(recipe_values(recipe))


def resolve_paths(value: Any, folder: Path) -> Any:
    """Return the tree with relative paths made to point to `folder` if they exist only there."""
    if isinstance(value, Mapping):
        return {key: resolve_paths(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve_paths(inner, folder) for inner in value]
    if (
        not isinstance(value, str)
        or not ({"/", "."} & set(value))
        or "\n" in value
        or Path(value).is_absolute()
    ):
        return value
    resolved = os.path.normpath(folder / value)
    return resolved if not _exists(value) and _exists(resolved) else value


def _exists(path: str) -> bool:
    return path_exists(path) or is_matched(path)


def _plain(model: str) -> str:
    last = Path(model.partition("@")[0]).name or "model"
    return (
        "".join(
            character
            if character.isascii() and (character.isalnum() or character in "._-")
            else "-"
            for character in last
        ).lstrip("._-")
        or "model"
    )


_RECIPE = """\
# Grafts {language} onto {model}.
#   lingraft plan {file}       what it would do, what it costs
#   lingraft adapt {file}      carries it out
#   lingraft settings          every setting, its default and its meaning
name: {name}
model: {model}    # a folder, or owner/name@revision of a hub
target:
  language: {language}    # a BCP-47 tag, or domain:NAME
  corpus: {text}    # files (.txt .jsonl .csv .parquet, also .gz .zst), globs, or hub data sets owner/name
  # heldout: {{path: heldout.jsonl}}    # text to measure on; left out: a share of the corpus is set apart
  # limit: {{bytes: 100 MB}}            # at most so much text
{replay}
vocabulary:
  method: continued    # merges learned on top of the base's own; also append, replace, prune, none
  size: {size}    # tokens to add, or auto
  pretokenizer: auto    # repaired if that saves over 10% of the tokens and re-cuts no base text; or keep, repair
# embeddings: calibrated    # how new rows are made; `lingraft settings embeddings` lists the methods
training:
  strategy: differential    # every weight, added rows at ten times the rate; also full, lora, rows
  budget: {budget}    # '100M tokens', '1 GB', '1 epoch'
# licences: {{result: cc-by-4.0}}    # what the model card states
seed: 0
"""

_REPLAY = """\
replay:    # text the model knows already: mixed in so that it is not forgotten, measured before and after
  language: {language}
  corpus: {text}
  share: 0.2    # of the bytes of training text"""

_NO_REPLAY = """\
# replay: {{language: en, corpus: english.jsonl, share: 0.2}}    # without it, nothing holds off forgetting"""


def commented_recipe(
    given: Given, file: Path, *, size: str = "10000", budget: str = "1 epoch"
) -> str:
    """Return a commented recipe for `given`; raises `RecipeError` if it would not be valid."""
    needed = {"model": given.model, "language": given.language, "text": given.text}
    missing = " and ".join(name for name, value in needed.items() if not value)
    if missing:
        msg = f"{file}: {missing} must be known for a recipe; give --model, --language and --text"
        raise RecipeError(msg)
    replay = _NO_REPLAY.format()
    if given.base_text:
        replay = _REPLAY.format(
            language=_scalar(given.base_language or "en"), text=_scalar(list(given.base_text))
        )
    text = _RECIPE.format(
        file=file,
        name=_scalar(f"{file.stem}-{{language}}"),
        model=_scalar(given.model),
        size=size,
        language=_scalar(given.language),
        text=_scalar(list(given.text)),
        replay=replay,
        budget=_scalar(budget),
    )
    tree = read_text(text.encode(), str(file))
    parse_recipe(Tree(resolve_paths(tree.values, file.parent), tree.origins))
    return text


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
