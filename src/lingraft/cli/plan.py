"""The command that shows what a run would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lingraft.cli.options import (
    AsJson,
    Device,
    Name,
    Precision,
    Runs,
    StoreFolder,
    log,
    overrides_with_name,
    print_json,
    print_table,
)
from lingraft.cli.recipe_options import RecipeOptions, names_a_recipe

if TYPE_CHECKING:
    from lingraft.recipe import Recipe, Runtime


@names_a_recipe
def plan(
    options: RecipeOptions,
    *,
    name: Name = None,
    runs: Runs = Path("runs"),
    store: StoreFolder = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Show what a run would do: each stage, whether it is cached, its size, cost and time."""
    from lingraft.recipe import Runtime

    chosen = options.read(overrides_with_name(options.override, name))
    print_plan(chosen, Runtime(runs, store or Path(), device, precision), as_json=as_json)


def print_plan(recipe: Recipe, runtime: Runtime, *, as_json: bool) -> None:
    """Print the stages of a run, and what its result will not be able to do."""
    from lingraft import pipeline

    graph = pipeline.build_graph(recipe, for_plan=True)
    stages = pipeline.plan(recipe, runtime, graph)
    if as_json:
        for warning in pipeline.unused_settings(recipe):
            log(f"warning: {warning}")
        print_json([stage.as_json() for stage in stages])
        return
    typer.echo(pipeline.describe_run(recipe))
    for stage in stages:
        for note in stage.notes:
            typer.echo(note)
    print_table(pipeline.plan_table(stages))
    typer.echo(pipeline.describe_pretokenizer_plan(recipe, runtime, graph))
    if balance := pipeline.describe_balance_plan(recipe):
        typer.echo(balance)
    for warning in pipeline.unused_settings(recipe):
        typer.echo(f"warning: {warning}")
    for line in pipeline.describe_limits(recipe, runtime, graph):
        typer.echo(line)
