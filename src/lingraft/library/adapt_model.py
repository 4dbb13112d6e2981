"""`lingraft.adapt`: a run of a recipe from Python, as `lingraft adapt` makes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft import pipeline
from lingraft.pipeline import Run
from lingraft.recipe import Given, Runtime, assignment, chosen_recipe
from lingraft.report import write_report


def adapt(
    recipe: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    language: str | None = None,
    text: str | Sequence[str] = (),
    base_language: str | None = None,
    base_text: str | Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    store: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    device: str = "auto",
    precision: str = "auto",
) -> Run:
    """Run a recipe file, or adapt `model` to `language` on `text` with default settings.

    Returns the finished run. `overrides` changes settings by their dotted path:
    `{"vocabulary.size": 3000}`. Stages that are cached in the store are not computed again. Raises
    `lingraft.errors.LingraftError` with one line that says how to fix the problem.
    """
    given = Given(model, language, _as_list(text), base_language, _as_list(base_text))
    changes = [assignment(setting, value) for setting, value in (overrides or {}).items()]
    chosen = chosen_recipe(Path(recipe) if recipe is not None else None, given, changes)
    runtime = Runtime(Path(runs), Path(store or ""), device, precision)
    return pipeline.run(chosen, runtime, write_report=write_report)


def _as_list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
