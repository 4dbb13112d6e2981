"""Python in processes of their own, without the seconds that imports take.

A command of lingraft spends about six of its ten seconds of processor time on imports. A server
process imports the libraries once for each pytest process, and every command is a fork of it: a new
process with its own working directory, environment, output and exit code. What a library reads from
the environment while it is imported (as huggingface_hub does) cannot be set this way, and what a
process imports cannot be seen.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess

IMPORTED = (
    "altair",
    "lingraft.certificate",
    "lingraft.cli",
    "lingraft.pipeline.evaluation_stages",
    "lingraft.report",
    "pandas",
    "lingraft.training.train",
    "pyarrow.dataset",
    "scipy.optimize",
    "scipy.stats",
    "tokenizers.trainers",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "vl_convert",
    "tests.tables",
)

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*IMPORTED, "tests.frozen_imports"])


LINGRAFT = ("-c", "from lingraft.cli import main; main()")
"""What Python is given to be the command `lingraft`."""


@dataclass(frozen=True)
class Started:
    """A process that runs, and the folder of the files that hold its input and what it prints."""

    process: ForkServerProcess
    printed: Path

    def finish(self, timeout: float = 300) -> CompletedProcess[str]:
        """Wait for its end; return exit code and output."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still runs after {timeout} s"
        stdout, stderr = (
            (self.printed / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")
        )
        shutil.rmtree(self.printed)
        return CompletedProcess([], self.process.exitcode, stdout, stderr)


def start(
    *arguments: object,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> Started:
    """Start `python -c CODE ...` or `python -m MODULE ...` in a folder.

    The environment is this process's or another.
    """
    printed = Path(tempfile.mkdtemp(prefix="lingraft-command-"))
    (printed / "stdin").write_text(stdin, encoding="utf-8")
    given = (
        list(map(str, arguments)),
        cwd,
        dict(os.environ if environment is None else environment),
        printed,
    )
    process = SERVER.Process(target=_python, args=given)
    process.start()
    return Started(process, printed)


def lingraft(
    *arguments: object, cwd: Path, environment: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """Run `lingraft ARGUMENTS` in a folder to its end."""
    return start(*LINGRAFT, *arguments, cwd=cwd, environment=environment).finish()


def _python(arguments: list[str], cwd: Path, environment: dict[str, str], printed: Path) -> None:
    """Be such a process: do what a shell and then Python would do."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        (printed / name).touch()
        os.dup2(os.open(printed / name, os.O_WRONLY), number)
    os.dup2(os.open(printed / "stdin", os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR may be another one
    kind, what, *rest = arguments
    sys.argv = [kind if kind == "-c" else what, *rest]
    if kind == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)
