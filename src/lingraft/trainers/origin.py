"""What a hand-over starts from: a recipe file, or a finished run, which keeps its recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.errors import RecipeError
from lingraft.pipeline import load_run
from lingraft.pipeline.run_folder import RUN
from lingraft.recipe import Recipe, load_recipe
from lingraft.recipe.load import resolve_paths
from lingraft.recipe.overrides import Assignment
from lingraft.trainers.manifest import MANIFEST


def find_recipe(path: Path, overrides: Sequence[str | Assignment] = ()) -> Recipe:
    """Return the recipe in a file, changed by `overrides`, or that of a finished run.

    Raises `RecipeError` for overrides of a run: they would make another run of it.
    """
    if path.suffix in {".yaml", ".yml"}:
        return load_recipe(path, overrides)
    recipe = load_run(path).recipe
    if overrides:
        msg = f"{path}: a finished run has its settings; change those of {path / 'recipe.yaml'}"
        raise RecipeError(msg)
    return recipe


def recorded_keys(path: Path) -> dict[str, str]:
    """Return the keys of a finished run's stages by their titles; none for a recipe."""
    if not path.is_dir():
        return {}
    return {stage["title"]: stage["key"] for stage in load_run(path).record["stages"]}


def store_of(path: Path) -> Path:
    """Return the store of a recipe or run if none is named, an empty path for the default one.

    A run folder is next to its store, and a hand-over folder often somewhere below the folder of
    `runs`, unless LINGRAFT_STORE names another store.
    """
    if os.environ.get("LINGRAFT_STORE"):
        return Path()
    if (path / RUN).is_file():
        return path.resolve().parent / ".store"
    if (path / MANIFEST).is_file():
        for parent in path.resolve().parents:
            if (parent / "runs" / ".store").is_dir():
                return parent / "runs" / ".store"
    return Path()


def locate_paths(recipe: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the recipe of a hand-over folder with its relative paths as they are found from here.

    They are relative to where `lingraft handover` ran: here, or in a folder above `folder`. Each is
    found in the nearest of these that has it.
    """
    located = dict(recipe)
    for parent in folder.resolve().parents:
        located = resolve_paths(located, parent)
    return located
