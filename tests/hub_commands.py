"""Commands of lingraft that take a loopback server for the Hub, without the seconds of imports.

The client of the Hub reads the server's address while it is imported. A process with that address
in its environment imports the libraries once; every command is a fork of it, as in
`tests.commands`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Self

from tests.commands import IMPORTED, SERVER, start
from tests.hub_server import HubServer

ROOT = Path(__file__).resolve().parent.parent


class HubCommands:
    """A context manager whose `python` runs a command with the server as the Hub."""

    def __init__(self, hub: HubServer, home: Path) -> None:
        self.environment = hub.environment(home)

    def __enter__(self) -> Self:
        environment = {**self.environment, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub_commands"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def python(
        self, *arguments: object, cwd: Path, variables: Mapping[str, str] | None = None
    ) -> CompletedProcess[str]:
        """Run `python ARGUMENTS` in a folder to its end."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        environment = {**self.environment, **(variables or {})}
        stdin.write(f"{json.dumps([[*map(str, arguments)], str(cwd), environment])}\n")
        stdin.flush()
        return CompletedProcess([], *json.loads(stdout.readline()))


def _serve() -> None:
    """Run the command of each line of standard input; print exit code and output as JSON."""
    SERVER.set_forkserver_preload([*IMPORTED, "datasets", "peft"])
    for line in sys.stdin:
        arguments, cwd, environment = json.loads(line)
        done = start(*arguments, cwd=Path(cwd), environment=environment).finish()
        sys.stdout.write(f"{json.dumps([done.returncode, done.stdout, done.stderr])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
