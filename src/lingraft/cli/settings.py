"""Commands about lingraft itself: its settings, its versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lingraft.cli.options import AsJson, print_json, print_table


def settings(
    path: Annotated[
        str, typer.Argument(help="Only settings under this path, for example vocabulary.")
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
    """Print the versions of lingraft and of what it stands on."""
    from lingraft.pipeline.versions import package_versions

    found = package_versions()
    if as_json:
        print_json(found)
        return
    for package, number in found.items():
        typer.echo(f"{package} {number}")
