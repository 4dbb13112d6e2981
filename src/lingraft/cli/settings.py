"""Commands about lingraft itself: the settings of a recipe, and the installed versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lingraft.cli.options import AsJson, print_json, print_table


def settings(
    path: Annotated[
        str, typer.Argument(help="List only settings under this path, for example vocabulary.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List every setting of a recipe: its path, type, default and meaning."""
    from lingraft.recipe.catalogue import chosen_settings, settings_table

    if as_json:
        print_json([asdict(setting) for setting in chosen_settings(path)])
    else:
        print_table(settings_table(path))


def version(*, as_json: AsJson = False) -> None:
    """Print the versions of lingraft and of the libraries that it uses."""
    from lingraft.pipeline.versions import package_versions

    versions = package_versions()
    if as_json:
        print_json(versions)
        return
    for package, number in versions.items():
        typer.echo(f"{package} {number}")
