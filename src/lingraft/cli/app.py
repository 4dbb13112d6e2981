"""The Typer application, and the exit code and message for everything that can go wrong."""

from __future__ import annotations

import errno
import io
import re
import signal
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lingraft.errors import Interrupted, LingraftError, one_line
from lingraft.progress import quiet_import_notes

# click's, or that of the copy of click that newer versions of typer have.
_UsageError: Any = typer.BadParameter.__bases__[0]
# A setting in a message about arguments: `a.b=1`, or `--a.b`.
_SETTING = re.compile(
    r"extra argument.*?\b([a-z_]+\.[a-z_.0-9]+)=|such option: --([a-z_]+\.[a-z_.0-9]+)"
)


class _Commands(TyperGroup):
    """The commands; errors in their arguments are one line, with a hint where one is a setting."""

    def main(self, *args: Any, **extra: Any) -> Any:
        if not extra.get("standalone_mode", True):
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                return super().main(*args, **extra)  # prints the help
            command = error.ctx.command_path if error.ctx else "lingraft"
            message = one_line(error.format_message()).removesuffix(".")
            advice = f"{' See' if message.endswith('?') else '; see'} `{command} --help`"
            typer.echo(f"error: {message[:1].lower()}{message[1:]}{advice}", err=True)
            code = LingraftError.exit_code
        except typer.Abort:
            code = 1
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            options = error.ctx.command.params if error.ctx else ()
            takes_settings = any("-o" in option.opts for option in options)
            if takes_settings and (setting := _SETTING.search(error.message)):
                hint = f"settings are given with -o: -o {setting[1] or setting[2]}=VALUE"
                error.message = f"{error.message.rstrip('.')}; {hint}"
            raise


app = typer.Typer(
    name="lingraft",
    cls=_Commands,
    no_args_is_help=True,
    # A bug shows Python's own traceback, which users can copy into a report.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Adapt a pretrained language model to a language.\n\n"
    "lingraft learns tokens from text in the language, adds them to the model's tokenizer, "
    "initialises their embedding rows, continues pretraining, and measures the model before and "
    "after.\n\n"
    "Start with [bold]lingraft adapt MODEL --language hi[/bold], on web text from the Hub, or on "
    "your own text with [bold]--text FILE[/bold]. In a clone of lingraft, "
    "[bold]lingraft adapt recipes/demo.yaml[/bold] needs neither a model nor text.",
    epilog="Exit codes: 0 success; 1 a bug in lingraft, with its traceback; 2 an error that you "
    "can fix, in one line; 3 training cannot continue, or a cell of a study failed; 130 stopped, "
    "run the same command again to continue.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lingraft {version('lingraft')}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and stop; `lingraft version` also prints those of libraries.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Read the options that stand before a command."""


NO_PERMISSION = "no permission to read or write this; change its permissions, or use another path"
DISK_FULL = "no space left on the disk; free some, or use another path"
# Errors of the file system that any command can meet. Stages report theirs with more detail.
FILE_SYSTEM_ERRORS = {
    errno.EACCES: NO_PERMISSION,
    errno.EPERM: NO_PERMISSION,
    errno.EROFS: "is on a read-only file system; use another path",
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EFBIG: DISK_FULL,
    errno.ENOTDIR: "a part of this path is a file, not a folder; use another path",
    errno.EEXIST: "is a file, where a folder is expected; use another path",
    errno.EISDIR: "is a folder, where a file is expected; use another path",
    errno.ENAMETOOLONG: "this name is too long for the file system; use a shorter one",
}
# A longer path is cut in a message, so that the message stays readable.
MAX_PATH_LENGTH = 300

# What Python puts into an argument for bytes that are not in the encoding of the locale.
NOT_DECODED = re.compile("[\udc80-\udcff]")

STOP_AGAIN_SECONDS = 0.01


def main() -> None:
    """Run the command line."""
    # Where output is not UTF-8 (a file on Windows), letters that it lacks are escaped.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.unraisablehook = _stop_again
    quiet_import_notes()
    try:
        app()
    except (LingraftError, Interrupted) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except ValueError as error:
        wrong = [argument for argument in sys.argv if NOT_DECODED.search(argument)]
        if not wrong or "surrogates not allowed" not in str(error):
            raise
        typer.echo(
            f"error: {wrong[0]!a}: this argument is not {sys.getfilesystemencoding()}, in "
            "which recipes and results hold names; rename the file",
            err=True,
        )
        sys.exit(LingraftError.exit_code)
    except OSError as error:
        # An error while writing to an open file (a full disk) has no file name.
        disk_full = FILE_SYSTEM_ERRORS.get(error.errno or 0) == DISK_FULL
        if error.errno not in FILE_SYSTEM_ERRORS or not (error.filename or disk_full):
            raise
        # For a copy or a rename, filename2 is the destination, where writing failed.
        path = str(error.filename2 or error.filename or "this command")
        shown = path if len(path) < MAX_PATH_LENGTH else f"{path[: MAX_PATH_LENGTH // 4]}..."
        typer.echo(f"error: {shown}: {FILE_SYSTEM_ERRORS[error.errno]}", err=True)
        sys.exit(LingraftError.exit_code)


def _stop(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process immediately
    msg = "stopped; finished stages are stored, run the same command again to continue"
    raise Interrupted(msg)


def _stop_again(ignored: Any) -> None:
    """Stop a moment later if a signal arrived where Python discards exceptions, as in a `__del__`.

    Its exception is lost there. Such code can run for seconds while the regular expression of a
    pre-tokenizer is compiled.
    """
    if ignored.exc_type is not Interrupted:
        sys.__unraisablehook__(ignored)
        return
    # A timer, because an exception that is raised in this hook is ignored, too.
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, STOP_AGAIN_SECONDS)
