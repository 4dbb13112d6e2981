"""Reads recipes from files and command-line options, and writes recipe files.

`recipe_yaml` writes every setting of a recipe. `commented_recipe` writes a short file with
comments, with which `lingraft init` starts a new recipe.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.corpus.text_files import is_matched
from lingraft.errors import RecipeError
from lingraft.recipe.default_text import Given, with_default_text
from lingraft.recipe.old_names import current_tree
from lingraft.recipe.overrides import Assignment, override
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.schema import Recipe
from lingraft.recipe.text_needs import preset_bytes, resolve_presets
from lingraft.recipe.tree import Tree
from lingraft.recipe.yaml import dump, read_file, read_text
from lingraft.store import path_exists

MAX_NAME = 60
"""Characters of the name of a run that are taken from the name of a model or a file."""


def load_recipe(
    path: Path, overrides: Sequence[str | Assignment] = (), *, trains: bool = True
) -> Recipe:
    """Read a recipe file and apply dotted overrides (`vocabulary.size=10000`).

    A relative path in a recipe is looked up in the current directory, then next to the recipe file.
    Raises `RecipeError` with the full path of the setting and its line.
    """
    tree = read_file(path)
    if not {"axes", "cells"}.isdisjoint(tree.values):
        msg = f"{path}: a study, not a recipe; name a recipe, or run `lingraft study {path}`"
        raise RecipeError(msg)
    tree = override(tree, overrides)
    tree = replace(tree, values=resolve_paths(tree.values, path.parent))
    return parse_recipe(tree, trains=trains)


def _given_overrides(given: Given) -> list[Assignment]:
    """Return the options that are given as overrides of a recipe; errors name the options."""
    settings = (
        ("model", "--model", given.model),
        ("target.language", "--language", given.language),
        ("target.corpus", "--text", given.sources()),
        ("replay.language", "--base-language", given.base_language),
        ("replay.corpus", "--base-text", given.base_sources()),
    )
    overrides = []
    for setting, option, value in settings:
        if value:
            overrides.append(Assignment(setting, value, option))
    return overrides


def assignment(setting: str, value: Any) -> str:
    """Return the override `setting=value`.

    >>> assignment("target.language", "no")
    'target.language="no"'
    """
    # JSON is valid YAML, and its quotes keep a string from being read as a number or a boolean.
    return f"{setting}={json.dumps(value, ensure_ascii=False)}"


def chosen_recipe(
    path: Path | None,
    given: Given,
    overrides: Sequence[str | Assignment] = (),
    *,
    trains: bool = True,
) -> Recipe:
    """Return the recipe in a file, changed by `given` and `overrides`.

    Without a file, return a recipe with the defaults for `given`; text that is not named is a
    preset of the Hub. Raises `RecipeError` if there is no model or no language. Without `trains`,
    the recipe is for an extension, which reads less of a preset.
    """
    if path is not None:
        return load_recipe(path, [*_given_overrides(given), *overrides], trains=trains)
    needed = {"--model": given.model, "--language": given.language}
    missing = " and ".join(option for option, value in needed.items() if not value)
    if missing or not given.model:
        msg = (
            f"without a recipe, {missing} must be given; or name a recipe, a YAML file that "
            "`lingraft init` writes"
        )
        raise RecipeError(msg)
    given = with_default_text(given, [_path_of(change) for change in overrides])
    values: dict[str, Any] = {
        "name": f"{_folder_name(str(given.model))}-{{language}}",
        "model": given.model,
        "target": {"language": given.language, "corpus": given.sources()},
    }
    if replay := given.base_sources():
        values["replay"] = {"language": given.base_language or "en", "corpus": replay}
    return parse_recipe(override(Tree(values), overrides), trains=trains)


def _path_of(change: str | Assignment) -> str:
    return change.path if isinstance(change, Assignment) else change.partition("=")[0].strip()


def parse_recipe(tree: Tree, *, trains: bool = True) -> Recipe:
    """Validate a tree of settings and return the recipe.

    A preset becomes the hub data set that it means for the language. Prints a warning for each old
    name. Raises `RecipeError` with all problems, one per line.
    """
    recipe = parse_settings(current_tree(tree), Recipe)
    return resolve_presets(recipe, preset_bytes(recipe, trains=trains))


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return every setting as plain JSON, including defaults and the settings of methods."""
    values = recipe.model_dump(mode="json", by_alias=True)
    for role in ("target", "replay"):
        if values[role]:  # the language comes first, because readers look for it
            values[role] = {"language": values[role]["language"], **values[role]}
    if not values["extra_targets"]:
        del values["extra_targets"]
    return values


def recipe_yaml(recipe: Recipe) -> str:
    """Return a recipe file that gives the same recipe again, with every default written out."""
    heading = (
        "# Every setting of the run, defaults included. To run it again: lingraft adapt "
        "recipe.yaml\n"
    )
    return heading + dump(recipe_values(recipe))


def resolve_paths(value: Any, folder: Path) -> Any:
    """Return the tree with `folder` put before each relative path that exists only in `folder`."""
    if isinstance(value, Mapping):
        tree = {key: resolve_paths(inner, folder) for key, inner in value.items()}
        if isinstance(path := value.get("path"), str) and _is_missing(path):
            from_folder = os.path.normpath(folder / path)
            tree["path"] = from_folder if _exists(from_folder) else path
        return tree
    if isinstance(value, list):
        return [resolve_paths(inner, folder) for inner in value]
    # Only a string with a slash or a dot is taken for a path: a folder that happens to be called
    # `mean` or `hi` must not change the name of a method or a language.
    if (
        not isinstance(value, str)
        or not ({"/", "."} & set(value))
        or "\n" in value
        or Path(value).is_absolute()
    ):
        return value
    resolved = os.path.normpath(folder / value)
    return resolved if not _exists(value) and _exists(resolved) else value


def missing_paths(value: Any) -> Iterator[str]:
    """Yield the relative paths of files and folders in a tree that do not exist from here."""
    if isinstance(value, Mapping):
        if isinstance(path := value.get("path"), str) and _is_missing(path):
            yield path
        for inner in value.values():
            yield from missing_paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from missing_paths(inner)


def _is_missing(path: str) -> bool:
    return not ("://" in path or Path(path).is_absolute() or _exists(path))


def _exists(path: str) -> bool:
    return path_exists(path) or is_matched(path)


def _folder_name(model: str) -> str:
    """Return the last part of a model's path or id, as a valid name of a folder."""
    last = Path(model.partition("@")[0]).name
    return _run_name(last) or "model"


def _name_with_language(name: str, language: str) -> str:
    """Return the name of a run that ends with its language.

    >>> _name_with_language("delhi", "hi"), _name_with_language("news_hi", "hi")
    ('delhi-{language}', 'news_{language}')
    >>> _name_with_language("hi", "hi")
    '{language}'
    """
    own = language.rpartition(":")[2]  # of domain:law
    before = name[: -len(own)]
    ends_with_it = name.lower().endswith(own.lower()) and before[-1:] in {"", "-", "_", "."}
    return f"{before if ends_with_it else f'{name}-'}{{language}}"


def _run_name(written: str) -> str:
    """Return what of a name can be part of the name of a run."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", written).lstrip("._-")[:MAX_NAME]


_RECIPE = """\
# Adapts {model} to {language}.
#   lingraft plan {file}       shows the stages of the run and estimates their cost
#   lingraft adapt {file}      runs it
#   lingraft settings          lists every setting with its default and its meaning
name: {name}
model: {model}    # a folder, or owner/name@revision of a hub
target:
  language: {language}    # a BCP-47 tag, or domain:NAME
  corpus: {text}    # files (.txt .jsonl .csv .parquet ...), globs, hub data sets
  # heldout: {{path: heldout.jsonl}}    # text to measure on; default: a share of the corpus
  # limit: {{bytes: 100 MB}}            # maximum amount of text
{replay}
vocabulary:
  method: continued    # continues the base's merges; also append, replace, prune, none
  size: {size}    # tokens to add, or auto
  pretokenizer: auto    # changes it if that saves over 10% of the tokens; also keep, repair, named
# embeddings: calibrated    # how new rows are initialised; see `lingraft settings embeddings`
training:
  strategy: differential    # all weights, added rows at ten times the rate; also full, lora, rows
  budget: {budget}    # '100M tokens', '1 GB', '1 epoch'
# licences: {{result: cc-by-4.0}}    # what the model card states
seed: 0
"""

_REPLAY = """\
replay:    # text in a language that the model knows: mixed in to limit forgetting, and measured
  language: {language}
  corpus: {text}
  share: 0.2    # of the bytes of training text"""

_NO_REPLAY = """\
# replay: {{language: en, corpus: english.jsonl, share: 0.2}}    # limits forgetting"""


def commented_recipe(
    given: Given, file: Path, *, size: str = "10000", budget: str = "1 epoch"
) -> str:
    """Return the text of a new recipe file with comments.

    Raises `RecipeError` if `given` lacks something or the recipe is not valid.
    """
    needed = {"model": given.model, "language": given.language}
    missing = " and ".join(name for name, value in needed.items() if not value)
    if missing:
        msg = f"{file}: {missing} must be known for a recipe; give --model and --language"
        raise RecipeError(msg)
    given = with_default_text(given)
    replay = _NO_REPLAY.format()
    if given.base_text:
        replay = _REPLAY.format(
            language=_scalar(given.base_language or "en"), text=_scalar(given.base_sources())
        )
    text = _RECIPE.format(
        file=file,
        name=_scalar(_name_with_language(_run_name(file.stem) or "run", str(given.language))),
        model=_scalar(given.model),
        size=size,
        language=_scalar(given.language),
        text=_scalar(given.sources()),
        replay=replay,
        budget=_scalar(budget),
    )
    # The finished text is parsed here, so that `lingraft init` never writes a recipe that fails.
    tree = read_text(text.encode(), str(file))
    parse_recipe(replace(tree, values=resolve_paths(tree.values, file.parent)))
    return text


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
