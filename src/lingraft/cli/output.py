"""What commands print: results on standard output, as tables or JSON; progress and messages on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer


def tell(line: str) -> None:
    """Print a message to standard error."""
    typer.echo(line, err=True)


def print_table(table: Any) -> None:
    """Print a table: as wide as the terminal, or 160 columns where there is none."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)


def print_json(value: Any) -> None:
    """Print plain JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))
