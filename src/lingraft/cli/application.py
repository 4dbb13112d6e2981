"""The application that commands are hung on, and the way out of it: an exit code for everything that can go wrong."""

from __future__ import annotations

import errno
import signal
import sys
from typing import Any

import typer

from lingraft.errors import Interrupted, LingraftError

app = typer.Typer(
    name="lingraft", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Graft a language onto a pretrained language model.\n\n"
         "Tokens are learned from text in the language and spliced into the model's tokenizer, get embedding rows, the "
         "model is trained on, and what was won and lost is measured.\n\n"
         "Begin with [bold]lingraft adapt recipes/demo.yaml[/bold], or with a model and text of your own: "
         "[bold]lingraft adapt --model FOLDER --language hi --text FILE[/bold].",
    epilog="Exit codes: 0 done; 1 a bug of ours, with its traceback; 2 something to mend, told in one line; 3 a "
           "training run that cannot go on; 130 stopped, and the same command goes on from there.")


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except LingraftError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = str(error.filename)
        typer.echo(f"error: {name[:40]}...: no file can have a name of {len(name)} characters", err=True)
        sys.exit(LingraftError.exit_code)


def _stop(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    msg = "stopped; finished stages are kept, and the same command goes on from there"
    raise Interrupted(msg)
