"""How commands name a model: as an argument or with --model, in all of them.

An argument that ends in .yaml or .yml is a recipe. Every other argument is a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lingraft.errors import RecipeError

MoreModels = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Another way to name a model. Repeat for several.",
        rich_help_panel="What",
    ),
]
ModelOrRun = Annotated[
    Path | None,
    typer.Option("--model", "-m", metavar="RUN", help="Another way to name the run or model."),
]


def recipe_or_model(given: str | None, model: str | None) -> tuple[Path | None, str | None]:
    """Return the recipe and the model of a command whose argument may be either of the two.

    >>> recipe_or_model("r.yaml", "owner/name"), recipe_or_model("owner/name", None)
    ((PosixPath('r.yaml'), 'owner/name'), (None, 'owner/name'))
    """
    if given is None:
        return None, model
    if given.endswith((".yaml", ".yml")):
        return Path(given), model
    if model is not None and model != given:
        msg = (
            f"two models are named, {given} and --model {model}; name one (a recipe ends in .yaml)"
        )
        raise RecipeError(msg)
    return None, given


def models_of(arguments: Sequence[str] | None, options: Sequence[str] | None) -> list[str]:
    """Return the models of a command, as arguments or with --model; raises without any."""
    models = [*(arguments or ()), *(options or ())]
    if not models:
        msg = "no model is named; give a model folder, owner/name of the Hub, or a finished run"
        raise RecipeError(msg)
    return models


def run_of(argument: Path | None, option: Path | None) -> Path:
    """Return the run or model of a command, as its argument or with --model."""
    if argument is not None and option is not None and argument != option:
        msg = f"two models are named, {argument} and --model {option}; name one"
        raise RecipeError(msg)
    run = argument or option
    if run is None:
        msg = "no model is named; give a finished run (runs/demo-hi) or a model folder"
        raise RecipeError(msg)
    return run
