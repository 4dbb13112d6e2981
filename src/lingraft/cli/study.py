"""Commands that explore the choices: studies, and advice before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import (
    AsJson,
    BaseLanguage,
    BaseText,
    Device,
    Language,
    Model,
    Override,
    Precision,
    RecipeFile,
    Runs,
    StoreFolder,
    TextFiles,
    log,
    print_json,
    print_table,
)


def study(
    file: Annotated[
        Path,
        typer.Argument(metavar="STUDY", help="A study, a YAML file like recipes/study-inits.yaml."),
    ],
    *,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--override",
            "-o",
            metavar="PATH=VALUE",
            help="Change the study (scale=small, seeds=[0,1,2]), the "
            "values of an axis, or a setting of the recipe in every cell. Repeat for several.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only show the cells and stages, and which of them are there."
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            "-n",
            min=1,
            help="How much is done at a time, each in a process of its own.",
        ),
    ] = 1,
    executor: Annotated[str, typer.Option(help="local, or ray: tasks of a Ray cluster.")] = "local",
    ray_address: Annotated[
        str,
        typer.Option(
            help="Where the cluster is; left out: one on this machine, with --workers slots."
        ),
    ] = "",
    cpus: Annotated[
        float, typer.Option(help="CPU cores that a task takes of a Ray cluster.")
    ] = 1.0,
    gpus: Annotated[float, typer.Option(help="GPUs that a task takes of a Ray cluster.")] = 0.0,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Carry out a study: every cell of its axes and seeds, what they share made once, and one table of it all.

    The result is runs/NAME: table.parquet and .csv with every measurement, differences.csv with paired intervals,
    study.json, and the run of each cell under cells/. A failed cell is named and the others go on; the same command
    again does only what is missing.
    """
    from lingraft import study as studies
    from lingraft.recipe import Runtime
    from lingraft.report import write_report, write_study_report
    from lingraft.study.study_runner import how_to_run, outcome_tables, refuse_failures

    chosen = studies.read_study(file, override or [])
    how = how_to_run(
        Runtime(runs, store or Path(), device, precision),
        workers,
        executor,
        ray_address,
        (cpus, gpus),
    )
    if dry_run:
        planned = studies.study_plan(chosen, how, file.parent)
        if as_json:
            print_json(planned.as_json())
        else:
            for table in studies.study_plan_tables(planned):
                print_table(table)
        return
    finished = studies.run_study(
        chosen, how, write_report=write_report, folder=file.parent, log=log
    )
    page = write_study_report(finished.folder)
    if as_json:
        print_json(finished.record)
    else:
        for table in outcome_tables(finished):
            print_table(table)
        typer.echo(f"study   {finished.folder}\nreport  {page}")
    refuse_failures(finished)


def probe(
    recipe: RecipeFile = None,
    *,
    model: Model = None,
    language: Language = None,
    text: TextFiles = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    override: Override = None,
    inits: Annotated[
        str,
        typer.Option(
            metavar="INIT,INIT,...",
            help="Which ways to make rows: mean,calibrated, "
            "with settings {focus: {width: 100}}. `lingraft settings embeddings` "
            "lists them.",
        ),
    ] = "calibrated,mean,random",
    steps: Annotated[int, typer.Option(help="Steps of training with each.")] = 50,
    seeds: Annotated[
        int, typer.Option(help="How often, each with its own seed; one gives no interval.")
    ] = 3,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Rank ways to make embedding rows by a short training with each, on your own model and text.

    Bits per byte at step 0 do not rank them; after some fifty steps they do. An order is claimed only where intervals
    over seeds carry it. Text, vocabulary and packing are made once and serve a run of the recipe, too.
    """
    from lingraft import study
    from lingraft.recipe import Given, Runtime, chosen_recipe

    asked = study.Probe(study.inits_of(inits), steps, seeds)
    given = Given(model, language, text or (), base_language, base_text or ())
    chosen = chosen_recipe(recipe, given, override or [])
    found = study.run_probe(
        chosen, asked, Runtime(runs, store or Path(), device, precision), log=log
    )
    if as_json:
        print_json(found.as_json())
        return
    print_table(found.table())
    for sentence in found.sentences():
        typer.echo(sentence)


def advise(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model folders, tokenizer files, or "
            "owner/name on a hub: the bases to choose from.",
        ),
    ],
    *,
    language: Language = None,
    text: TextFiles = None,
    base_language: BaseLanguage = None,
    base_text: BaseText = None,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="KIND:COUNT", help="What it would be trained on, for example H100:8."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Text of the language that it would be "
            "trained on, like 200 MB [default: all that is given].",
        ),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Adapt each base on so much text, like 1 MB, and predict the end from that.",
        ),
    ] = None,
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Say how many tokens to add, which base to take, what the end will be and what it costs, before anything runs.

    With --probe each base is adapted on a little text first; without, nothing is trained. Every number carries its
    95% interval, and a base is called better only where the intervals say so.
    """
    from lingraft import advice
    from lingraft.recipe import Runtime

    request = advice.request_of(
        language, text, base_language, base_text, gpus=gpus, budget=budget, probe=probe
    )
    found = advice.advise(
        models, request, Runtime(Path("runs"), store or Path(), device, precision)
    )
    if as_json:
        print_json(advice.advice_json(found))
        return
    for table in advice.advice_tables(found):
        print_table(table)
