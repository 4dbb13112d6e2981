"""Commands that carry a recipe out: the whole run, its plan, the extension alone, the report again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lingraft.cli.options import (
    AsJson,
    BaseLanguage,
    BaseText,
    CheckpointSeconds,
    Device,
    DryRun,
    Executor,
    Language,
    Model,
    Name,
    Override,
    Precision,
    Processes,
    RayAddress,
    RecipeFile,
    Recompute,
    Runs,
    StoreFolder,
    TextFiles,
    Trackers,
    WorkerCount,
    log,
    overrides,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from lingraft.recipe import Recipe, Runtime


def adapt(
    recipe: RecipeFile = None,
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    override: Override = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    nproc: Processes = None,
    trackers: Trackers = "",
    recompute: Recompute = False,
    checkpoint_seconds: CheckpointSeconds = 300.0,
    workers: WorkerCount = 1,
    executor: Executor = "local",
    ray_address: RayAddress = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a model to a language and report what was won and lost.

    Stages that were done before are taken from the store; a run that was stopped goes on where it was. The result is
    runs/NAME: model/ (loads with plain from_pretrained), report.html, measurements.csv, and the recipe that was used.
    """
    from lingraft import pipeline
    from lingraft.recipe import Given, Runtime, chosen_recipe
    from lingraft.report import write_report
    from lingraft.training.launch import launched, start_processes
    from lingraft.workers import Workers

    launch = launched(nproc)
    given = Given(model, language, text or (), base_language, base_text or ())
    chosen = chosen_recipe(recipe, given, overrides(override, name))
    runtime = Runtime(
        runs,
        store or Path(),
        device,
        precision,
        launch,
        tuple(name for name in trackers.split(",") if name),
        recompute,
        checkpoint_seconds,
        Workers(workers, executor, ray_address),
    )
    if launch and launch.rank:
        _take_part(chosen, runtime)
        return
    if dry_run:
        _print_plan(chosen, runtime, as_json=as_json)
        return
    if launch is None and nproc and nproc > 1:
        sys.exit(start_processes(nproc, sys.argv[1:]))
    run = pipeline.run(chosen, runtime, write_report=write_report, log=log)
    if as_json:
        print_json(pipeline.summary(run))
        return
    for line in pipeline.warning_lines(run.folder):
        typer.echo(line)
    print_table(pipeline.before_after(run))
    if line := pipeline.pretokenizer_line(run.folder):
        typer.echo(line)
    typer.echo(f"model   {run.model}\nreport  {run.report}")


def _take_part(recipe: Recipe, runtime: Runtime) -> None:
    """Train along with the first process, which says the same where training stops."""
    from lingraft import pipeline
    from lingraft.errors import Interrupted, TrainingError

    try:
        pipeline.run_as_worker(recipe, runtime)
    except (Interrupted, TrainingError) as stopped:
        sys.exit(stopped.exit_code)


def plan(
    recipe: RecipeFile = None,
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    override: Override = None,
    name: Name = None,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Show what a run would do: each stage, whether it is done already, its size, its cost and an estimated time."""
    from lingraft.recipe import Given, Runtime, chosen_recipe

    given = Given(model, language, text or (), base_language, base_text or ())
    chosen = chosen_recipe(recipe, given, overrides(override, name))
    _print_plan(chosen, Runtime(runs, store or Path(), device, precision), as_json=as_json)


def _print_plan(recipe: Recipe, runtime: Runtime, *, as_json: bool) -> None:
    from lingraft import pipeline

    rows = pipeline.plan(recipe, runtime)
    if as_json:
        print_json([row.as_json() for row in rows])
    else:
        for line in (note for row in rows for note in row.notes):
            typer.echo(line)
        print_table(pipeline.plan_table(rows))
        typer.echo(pipeline.describe_pretokenizer_plan(recipe, runtime))


def extend(
    recipe: RecipeFile = None,
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    override: Override = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-O",
            metavar="FOLDER",
            help="Where the extended model is written.",
            rich_help_panel="Where",
        ),
    ] = Path("extended"),
    size: Annotated[
        str | None,
        typer.Option("--size", help="How many tokens to add, or auto.", rich_help_panel="What"),
    ] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Add tokens to a tokenizer, and rows for them where there are weights; nothing is trained.

    MODEL may be a model folder, a hub id, or a folder with only a tokenizer (also tokenizer.model or a tiktoken file).
    The certificate of what was kept lies in FOLDER/lingraft/certificate.json.
    """
    from lingraft import pipeline
    from lingraft.recipe import Given, Runtime, chosen_recipe

    given = Given(model, language, text or (), base_language, base_text or ())
    sized = [f"vocabulary.size={size}"] if size else []
    chosen = chosen_recipe(recipe, given, [*sized, *overrides(override, None)])
    folder = pipeline.extend(
        chosen, Runtime(Path("runs"), store or Path(), "auto", "auto"), output, log=log
    )
    certificate = folder / "lingraft" / "certificate.json"
    if as_json:
        warnings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["warnings"]
        changed = json.loads((certificate.parent / "pretokenizer.json").read_text(encoding="utf-8"))
        print_json(
            {
                "extended": str(folder),
                "warnings": warnings,
                "pretokenizer": changed,
                **json.loads(certificate.read_text(encoding="utf-8")),
            }
        )
        return
    for line in pipeline.warning_lines(folder):
        typer.echo(line)
    print_table(pipeline.claims_table(certificate))
    typer.echo(pipeline.pretokenizer_line(certificate.parent))
    typer.echo(f"extended  {folder}")


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run or study folders, for example runs/demo-hi."),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-O",
            metavar="FILE",
            help="Where the page that "
            "compares several runs is written (default: comparison.html "
            "beside the first one).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write report.html of finished runs and studies again; of several runs, a page with them side by side, too."""
    from lingraft.report import rebuild_pages

    written = rebuild_pages(runs, output)
    if as_json:
        print_json([{name: str(path) for name, path in paths.items()} for paths in written])
        return
    for paths in written:
        typer.echo("  ".join(f"{name} {path}" for name, path in paths.items()))
