"""The application that commands are hung on, and the way out of it: an exit code for everything that can go wrong."""

from __future__ import annotations

import errno
import signal
import sys
from typing import Any

import typer

from lingraft.errors import Interrupted, LingraftError

app = typer.Typer(
    name="lingraft",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Graft a language onto a pretrained language model.\n\n"
    "Tokens are learned from text in the language and spliced into the model's tokenizer, get embedding rows, the "
    "model is trained on, and what was won and lost is measured.\n\n"
    "Begin with [bold]lingraft adapt recipes/demo.yaml[/bold], or with a model and text of your own: "
    "[bold]lingraft adapt --model FOLDER --language hi --text FILE[/bold].",
    epilog="Exit codes: 0 done; 1 a bug of ours, with its traceback; 2 something to mend, told in one line; 3 a "
    "training run that cannot go on; 130 stopped, and the same command goes on from there.",
)


FORBIDDEN = "may not be read or written by you; change its rights, or name another place"
NO_ROOM = "no room on the disk; free some, or name another place"
FILE_SYSTEM = {
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: "lies on a disk that is read-only; name another place",
    errno.ENOSPC: NO_ROOM,
    errno.EDQUOT: NO_ROOM,
    errno.EFBIG: NO_ROOM,
    errno.ENOTDIR: "a part of this path is a file, not a folder; name another place",
    errno.EISDIR: "is a folder, where a file is expected; name another place",
    errno.ENAMETOOLONG: "no file can have so long a name",
}
"""What a file system can say no to, wherever a command touches it; stages say it themselves, with their names."""

LONG = 300


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
        full = error.errno in {
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
        }  # while it writes, a disk names no file
        if error.errno not in FILE_SYSTEM or not (error.filename or full):
            raise
        name = str(
            error.filename2 or error.filename or "this command"
        )  # of a copy, the second is what is written
        shown = name if len(name) < LONG else f"{name[: LONG // 4]}..."
        typer.echo(f"error: {shown}: {FILE_SYSTEM[error.errno]}", err=True)
        sys.exit(LingraftError.exit_code)


def _stop(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    msg = "stopped; finished stages are kept, and the same command goes on from there"
    raise Interrupted(msg)
