"""Commands about lingraft itself: the settings of a recipe, and the installed versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lingraft.cli.options import AsJson, print_json, print_table


def settings(
    path: Annotated[
        str,
        typer.Argument(
            metavar="[PATH[=VALUE]]",
            help="Explain only this path, as -o takes it: vocabulary, training.strategy.lora, "
            "training.budget=4MB, or study.seeds.",
        ),
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Explain the settings of recipes and studies: path, type, default and meaning.

    Every path that -o takes is explained here, and every path that is listed here may be given to
    -o. With a value, it is also shown how the value is read.
    """
    from lingraft.recipe.explain import explained, settings_table
    from lingraft.studies.config import Study

    found, read_as = explained(path, {"study": Study})
    if as_json:
        print_json([asdict(setting) for setting in found])
        return
    print_table(settings_table(found))
    if read_as:
        typer.echo(f"\n{read_as}")


def version(*, as_json: AsJson = False) -> None:
    """Print the versions of lingraft and of the libraries that it uses."""
    from lingraft.pipeline.versions import package_versions

    versions = package_versions()
    if as_json:
        print_json(versions)
        return
    for package, number in versions.items():
        typer.echo(f"{package} {number}")
