"""`lingraft.handover`: a folder with which another trainer continues pretraining."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from lingraft.recipe import Runtime
from lingraft.store import expanded
from lingraft.trainers.handover_checks import find_data, find_engine
from lingraft.trainers.manifest import Handover
from lingraft.trainers.origin import find_recipe, recorded_keys, store_of
from lingraft.trainers.write_folder import hand_over
from lingraft.workers import Workers


def handover(
    run_or_recipe: str | os.PathLike[str] | Run,
    *,
    to: str,
    output: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    data: str | Sequence[str] = (),
    store: str | os.PathLike[str] | None = None,
    device: str = "auto",
    workers: int = 1,
    log: LogLine | None = None,
) -> Handover:
    """Write a folder with which another trainer trains as lingraft would.

    The folder has the extended model, the token ids in the order of lingraft's training, and a
    configuration of the trainer. Stages that are not in the store are built.

    Args:
        run_or_recipe: a recipe file, or a finished run (a folder, or a `Run`), whose recipe is
            used.
        to: the trainer: megatron, axolotl, llama-factory, trl, torchtitan or hf (the Trainer of
            transformers).
        output: the folder to write. It must not exist, or be empty.
        overrides: other settings of a recipe by their dotted path.
        data: forms of the training text to write in addition to those that the trainer reads:
            sequences, megatron, text.
        store: where finished stages are cached (default: LINGRAFT_STORE, or `.store` next to the
            run, or `runs/.store`).
        device: where rows are computed: auto, cpu, cuda, cuda:1 or mps.
        workers: how many processes count words and tokenise text.
        log: receives each line of progress. By default, they go to standard error.

    Returns:
        The content of handover.json.

    Raises:
        LingraftError: with one line that says what is wrong and what to do.
    """
    changes = assignments(overrides, "overrides")
    check_number(workers, "workers", at_least=1)
    given = run_or_recipe.folder if isinstance(run_or_recipe, Run) else run_or_recipe
    check_path(given, "run_or_recipe", "a path, or a Run")
    folder, place = given_path(output, "output"), given_store(store)
    forms = given_names(data, "data", "a form")
    path = expanded(Path(given))
    with send_lines_to(log), argument_names(handover):
        recipe = find_recipe(path, changes)
        runtime = Runtime(
            store=place if store else store_of(path), device=str(device), workers=Workers(workers)
        )
        return hand_over(
            recipe,
            runtime,
            find_engine(to),
            folder,
            data=find_data(forms),
            recorded=recorded_keys(path),
            log=say,
        )
