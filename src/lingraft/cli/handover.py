"""The command that hands a run over to another trainer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingraft.cli.options import (
    AsJson,
    Device,
    Override,
    StoreFolder,
    WorkerCount,
    log,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from lingraft.trainers import Handover

RunOrRecipe = Annotated[
    Path,
    typer.Argument(
        metavar="RUN_OR_RECIPE",
        help="A recipe, if it ends in .yaml or .yml; otherwise a finished run, whose recipe is "
        "used.",
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="TRAINER",
        help="The trainer: megatron, axolotl, llama-factory, trl, torchtitan, or hf (the Trainer "
        "of transformers).",
    ),
]
HandoverFolder = Annotated[
    Path,
    typer.Option(
        "--output", "-O", metavar="FOLDER", help="The folder to write: a new or an empty one."
    ),
]
MoreData = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="FORM",
        help="Also write the training text in this form: sequences (arrow data set of ids), "
        "megatron (.bin and .idx) or text (JSON lines). Repeat for several (default: only the "
        "forms that the trainer reads).",
    ),
]


def handover(
    run_or_recipe: RunOrRecipe,
    *,
    to: EngineName,
    output: HandoverFolder,
    override: Override = None,
    data: MoreData = None,
    store: StoreFolder = None,
    device: Device = "auto",
    workers: WorkerCount = 1,
    as_json: AsJson = False,
) -> None:
    """Write a folder with which another trainer continues pretraining.

    The folder has the extended model, the training text as the same token ids in the same order as
    lingraft trains on, held-out text, a configuration of the trainer with the same plan, and
    handover.json with all counts and hashes. Stages that are not stored yet are built.
    """
    from lingraft.recipe import Runtime
    from lingraft.trainers.origin import find_recipe, store_of
    from lingraft.trainers.write_folder import find_data, find_engine, hand_over
    from lingraft.workers import Workers

    engine, forms = find_engine(to), find_data(data or ())
    recipe = find_recipe(run_or_recipe, override or [])

    runtime = Runtime(
        store=store or store_of(run_or_recipe), device=device, workers=Workers(workers)
    )
    manifest = hand_over(recipe, runtime, engine, output, data=forms, log=log)
    if as_json:
        print_json(asdict(manifest))
        return
    _print_outcome(manifest, output)


def _print_outcome(manifest: Handover, output: Path) -> None:
    """Print what was written, what the trainer does differently, and what to do next."""
    from lingraft.trainers.summary import handover_table

    print_table(handover_table(manifest))
    for line in manifest.limits:
        typer.echo(f"different  {line}")
    typer.echo(f"handed over  {output}  ({output / 'README.md'} says how to start)")
