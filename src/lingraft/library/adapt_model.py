"""`lingraft.adapt`: a run of a recipe from Python, as `lingraft adapt` makes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

from lingraft import pipeline
from lingraft.errors import RecipeError
from lingraft.library.arguments import (
    argument_names,
    assignments,
    check_number,
    check_path,
    given_names,
    given_path,
    given_store,
)
from lingraft.pipeline import Run
from lingraft.progress import LogLine, say, send_lines_to
from lingraft.recipe import Given, Runtime, chosen_recipe
from lingraft.report import write_report
from lingraft.workers import Workers

Place: TypeAlias = str | os.PathLike[str]
"""A file, a glob, or the name of a data set."""


def adapt(
    recipe: str | os.PathLike[str] | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    language: str | None = None,
    text: Place | Sequence[Place] = (),
    base_language: str | None = None,
    base_text: Place | Sequence[Place] = (),
    overrides: Mapping[str, Any] | None = None,
    store: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    device: str = "auto",
    precision: str = "auto",
    workers: int = 1,
    trackers: Sequence[str] = (),
    recompute: bool | None = None,
    compile: str | bool = "auto",  # noqa: A002 - torch's name
    checkpoint_seconds: float = 300.0,
    log: LogLine | None = None,
) -> Run:
    """Run a recipe file, or adapt `model` to `language` on `text` with default settings.

    Stages that are cached in the store are not computed again, a finished run is returned at once,
    and a stopped run continues from its last checkpoint.

    Args:
        recipe: a recipe file. The other arguments change it; without it, `model` and `language`
            are needed.
        model: the source model: a model folder, or owner/name@revision on the Hub.
        language: the target language: a BCP-47 tag (hi, pt-BR), or domain:NAME.
        text: text in the target language: files, globs, data sets of the Hub, or a preset of them
            such as fineweb-2. Without text, fineweb-2 in this language is read, no more of it than
            the run needs.
        base_language: the language of `base_text` (default: en).
        base_text: text in a language that the model knows. It is mixed into training, so that the
            model does not forget the language, and is measured before and after. If no text is
            named at all, a preset in this language is read.
        overrides: other settings by their dotted path: `{"vocabulary.size": 3000}`.
        store: where finished stages are cached (default: LINGRAFT_STORE, or `runs/.store`).
        runs: the folder of all run folders.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, float32, bfloat16, or tf32 (float32 with faster, less exact products on
            NVIDIA GPUs); auto uses bfloat16 where the device supports it.
        workers: how many processes count words and tokenise text.
        trackers: where training metrics are sent in addition: tensorboard, wandb, trackio.
        recompute: compute activations again in the backward pass: less memory, slower. By default,
            a GPU that has no room for the activations does so.
        compile: torch.compile of the layers in training: True, False, or "auto" (on a GPU, if it
            makes the steps of a long training faster).
        checkpoint_seconds: save a checkpoint every so many seconds of training.
        log: receives each line of progress and each warning. By default, they go to standard error,
            with bars on a terminal. `log=lambda line: None` silences the run.

    Returns:
        The finished run, with its model, measurements and report.

    Raises:
        LingraftError: with one line that says what is wrong and what to do.
    """
    given = Given(
        _name(model, "model"),
        language,
        _places(text, "text"),
        base_language,
        _places(base_text, "base_text"),
    )
    changes = assignments(overrides, "overrides")
    check_number(workers, "workers", at_least=1)
    if not isinstance(checkpoint_seconds, Real):
        msg = f"checkpoint_seconds: {checkpoint_seconds!r} is no number; give seconds above 0"
        raise RecipeError(msg)
    sinks = given_names(trackers, "trackers", "the name of a tracker")
    file = None if recipe is None else given_path(recipe, "recipe")
    places = (given_path(runs, "runs"), given_store(store))
    with send_lines_to(log), argument_names(adapt):
        runtime = Runtime(
            *places,
            str(device),  # also a torch.device
            str(precision),
            trackers=tuple(sinks),
            recompute=recompute,
            checkpoint_seconds=float(checkpoint_seconds),
            compile=str(compile).lower(),
            workers=Workers(workers),
        )
        chosen = chosen_recipe(file, given, changes)
        return pipeline.run(chosen, runtime, write_report=write_report, log=say)


def _name(value: Any, argument: str) -> str | None:
    """Return a path or an id as text; raises `RecipeError` for a model or another object."""
    if value is None:
        return None
    hub = "owner/name on the Hub (save a model in memory with save_pretrained first)"
    check_path(value, argument, f"a path, or {hub}" if argument == "model" else "a path")
    return str(os.fspath(value))


def _places(value: Any, argument: str) -> list[str]:
    """Return files and data sets as text; raises `RecipeError` for other values."""
    values = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(values, Sequence):
        msg = f"{argument}: of type {type(value).__name__}; give a file, or a list of files"
        raise RecipeError(msg)
    return [str(_name(place, argument)) for place in values]
