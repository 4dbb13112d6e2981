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
    from lingraft.recipe import Recipe, Runtime
    from lingraft.trainers import Handover
    from lingraft.trainers.engine import Engine
    from lingraft.trainers.manifest import DataKind

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

PreviewOnly = Annotated[
    bool,
    typer.Option("--dry-run", help="Only show which stages would run, and how much is written."),
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
    dry_run: PreviewOnly = False,
    as_json: AsJson = False,
) -> None:
    """Write a folder with which another trainer continues pretraining.

    The folder has the extended model, the training text as the same token ids in the same order as
    lingraft trains on, held-out text, a configuration of the trainer with the same plan, and
    handover.json with all counts and hashes. Stages that are not stored yet are built.
    """
    from lingraft.recipe import Runtime
    from lingraft.trainers.handover_checks import check_output, check_plan, find_data, find_engine
    from lingraft.trainers.origin import find_recipe, recorded_keys, store_of
    from lingraft.trainers.write_folder import hand_over
    from lingraft.workers import Workers

    engine, forms = find_engine(to), find_data(data or ())
    recipe = find_recipe(run_or_recipe, override or [])
    check_plan(recipe, engine)
    check_output(output)

    runtime = Runtime(
        store=store or store_of(run_or_recipe), device=device, workers=Workers(workers)
    )
    if dry_run:
        _print_preview(recipe, runtime, engine, forms, as_json=as_json)
        return
    recorded = recorded_keys(run_or_recipe)
    manifest = hand_over(recipe, runtime, engine, output, data=forms, recorded=recorded, log=log)
    if as_json:
        print_json(asdict(manifest))
        return
    _print_outcome(manifest, output)


def _print_preview(
    recipe: Recipe, runtime: Runtime, engine: Engine, forms: list[DataKind], *, as_json: bool
) -> None:
    """Print the stages that would run and the sizes of the data, or both as JSON."""
    from lingraft import pipeline
    from lingraft.trainers.preview import preview

    found = preview(recipe, runtime, engine, forms)
    if as_json:
        stages = [stage.as_json() for stage in found.stages]
        print_json({"stages": stages, "data": found.lines})
        return
    print_table(pipeline.plan_table(found.stages))
    for line in found.lines:
        typer.echo(line)


def _print_outcome(manifest: Handover, output: Path) -> None:
    """Print what was written, what the trainer does differently, and what to do next."""
    from lingraft.trainers.summary import handover_table

    print_table(handover_table(manifest))
    for line in manifest.limits:
        typer.echo(f"different  {line}")
    typer.echo(f"handed over  {output}  ({output / 'README.md'} says how to start)")
