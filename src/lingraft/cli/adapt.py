"""The command that runs a recipe from the source model to the report."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingraft.cli.options import (
    AsJson,
    Device,
    Executor,
    Name,
    Precision,
    RayAddress,
    Runs,
    StoreFolder,
    WorkerCount,
    log,
    overrides_with_name,
    print_json,
    print_table,
    print_vocabulary,
    print_warnings,
)
from lingraft.cli.plan import print_plan
from lingraft.cli.recipe_options import RecipeOptions, names_a_recipe
from lingraft.errors import Interrupted, TrainingError

if TYPE_CHECKING:
    from lingraft.pipeline import Run
    from lingraft.recipe import Recipe, Runtime

Processes = Annotated[
    int | None,
    typer.Option(
        "--nproc",
        min=1,
        metavar="N",
        help="Train in N processes on this machine; each holds a shard of the model. "
        "On several machines: torchrun ... -m lingraft adapt RECIPE.",
        rich_help_panel="How",
    ),
]
Trackers = Annotated[
    str,
    typer.Option(
        "--trackers",
        metavar="NAME,...",
        help="Also send the training metrics to these: tensorboard, wandb, trackio.",
        rich_help_panel="How",
    ),
]
Recompute = Annotated[
    bool | None,
    typer.Option(
        "--recompute/--no-recompute",
        help="Recompute activations in the backward pass: less memory, slower, the same model. "
        "By default, a GPU that has no room for them does so; with --no-recompute, none does.",
        show_default=False,
        rich_help_panel="How",
    ),
]
Compile = Annotated[
    str,
    typer.Option(
        "--compile",
        help="torch.compile of the layers in training: true, false, or auto (on a GPU, if it makes "
        "the steps of a long training faster).",
        rich_help_panel="How",
    ),
]
CheckpointSeconds = Annotated[
    float,
    typer.Option(
        "--checkpoint-seconds",
        help="Save a checkpoint every so many seconds of training.",
        rich_help_panel="How",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only show what would be done, as `lingraft plan` does."),
]


@names_a_recipe
def adapt(
    options: RecipeOptions,
    *,
    name: Name = None,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    nproc: Processes = None,
    trackers: Trackers = "",
    recompute: Recompute = None,
    compile: Compile = "auto",  # noqa: A002 - the name of the option
    checkpoint_seconds: CheckpointSeconds = 300.0,
    workers: WorkerCount = 1,
    executor: Executor = "local",
    ray_address: RayAddress = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a model to a language and report what improved and what got worse.

    Finished stages are taken from the store, and a stopped run continues from its last checkpoint.
    The result is runs/NAME: model/ (loads with plain from_pretrained), report.html,
    measurements.csv and the complete recipe.
    """
    from lingraft.recipe import Runtime
    from lingraft.training.launch import Launch, launched
    from lingraft.workers import Workers

    chosen = options.read(overrides_with_name(options.override, name))
    launch = launched(nproc)
    sinks = tuple(filter(None, map(str.strip, trackers.split(","))))
    pool = Workers(workers, executor, ray_address)
    place = (runs, store or Path(), device, precision)
    runtime = Runtime(*place, launch, sinks, recompute, checkpoint_seconds, pool, compile.lower())
    is_first = not (launch and launch.rank)
    if dry_run:
        if launch is None and nproc and nproc > 1:
            # The plan of the processes that the run would start.
            runtime = replace(runtime, launch=Launch(0, nproc))
        # The other processes would wait for a training that never starts.
        if is_first:
            print_plan(chosen, runtime, as_json=as_json)
    elif not is_first:
        _train_as_worker(chosen, runtime)
    else:
        _run(chosen, runtime, nproc, as_json=as_json)


def _run(recipe: Recipe, runtime: Runtime, nproc: int | None, *, as_json: bool) -> None:
    """Run a recipe and print its outcome; with --nproc, start the processes of a sharded run."""
    from lingraft import pipeline
    from lingraft.report import write_report
    from lingraft.training.launch import check_device, start_processes

    if runtime.launch is None and nproc and nproc > 1:
        check_device(runtime.device, nproc)
        sys.exit(start_processes(nproc, sys.argv[1:]))
    run = pipeline.run(recipe, runtime, write_report=write_report, log=log)
    if as_json:
        print_json(pipeline.summary(run))
    else:
        print_outcome(run)


def _train_as_worker(recipe: Recipe, runtime: Runtime) -> None:
    """Train with the first process, which alone reports why training stopped."""
    from lingraft import pipeline

    try:
        pipeline.run_as_worker(recipe, runtime)
    except (Interrupted, TrainingError) as stopped:
        sys.exit(stopped.exit_code)


def print_outcome(run: Run) -> None:
    """Print the warnings, the table, what follows from it, and how to load the model."""
    from lingraft import pipeline
    from lingraft.model_card import loading_code

    print_warnings(run.folder)
    print_table(pipeline.before_after(run))
    typer.echo(f"{pipeline.measured_on(run)}\n")
    for sentence in run.headline:
        typer.echo(sentence)
    print_vocabulary(run.folder, run.folder)
    typer.echo(f"\nmodel   {run.model_path}\nreport  {run.report}")
    typer.echo(f"\n{loading_code(run.record, str(run.model_path))}")
