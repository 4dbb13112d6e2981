"""Commands about lingraft itself: its settings, its versions."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft.cli.output import print_table


def settings(path: Annotated[str, typer.Argument(help="Only settings under this path, for example vocabulary.")] = "",
             ) -> None:
    """List every setting of a recipe: its path, type, default and meaning."""
    from lingraft.recipe.catalogue import settings_table

    print_table(settings_table(path))


def version() -> None:
    """Print the versions of lingraft and of what it stands on."""
    from lingraft.pipeline.versions import versions

    for package, number in versions().items():
        typer.echo(f"{package} {number}")
