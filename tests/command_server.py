"""Commands in another environment than that of the tests, without the seconds of imports.

A process with that environment imports the libraries once; every command is a fork of it, as in
`tests.commands`. `HubCommands` has one for the tests with a loopback Hub, whose address and cache
the Hub's client reads while it is imported.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Self

from tests.commands import IMPORTED, SERVER, start
from tests.hub_server import HubServer, hub_environment

ROOT = Path(__file__).resolve().parent.parent


class CommandServer:
    """A context manager whose `python` runs a command in an environment.

    `prefix` is a command that starts the process in which the libraries are imported.
    """

    def __init__(self, environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.environment = {**environment, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        self.prefix = prefix

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "tests.command_server"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def python(
        self,
        *arguments: object,
        cwd: Path,
        variables: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> CompletedProcess[str]:
        """Run `python ARGUMENTS` in a folder to its end."""
        their_stdin, their_stdout = self._process.stdin, self._process.stdout
        assert their_stdin is not None
        assert their_stdout is not None
        environment = {**self.environment, **(variables or {})}
        asked = [[*map(str, arguments)], str(cwd), environment, stdin]
        their_stdin.write(f"{json.dumps(asked)}\n")
        their_stdin.flush()
        return CompletedProcess([], *json.loads(their_stdout.readline()))


class HubCommands(CommandServer):
    """Runs commands with a loopback server as the Hub: one server at a time, made by `serve`.

    Between two servers, no other process gets the port, and nothing answers there.
    """

    def __init__(self, folder: Path) -> None:
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self._port = self._reserved.getsockname()[1]
        # The path of the cache is read while the libraries are imported, so that it is a link.
        self._link = folder / "home"
        self._link.symlink_to(folder)
        super().__init__(hub_environment(f"http://127.0.0.1:{self._port}", self._link))

    def __exit__(self, *_error: object) -> None:
        super().__exit__()
        self._reserved.close()

    def serve(self, root: Path, **settings: Any) -> HubServer:
        """Return the server of a folder, which the commands take for the Hub."""
        return HubServer(root, port=self._port, **settings)

    def ask(self, *arguments: object, home: Path, **settings: Any) -> CompletedProcess[str]:
        """Run `python ARGUMENTS` with the cache of the Hub's libraries in the folder `home`."""
        home.mkdir(exist_ok=True)
        self._link.unlink()
        self._link.symlink_to(home)
        return self.python(*arguments, **settings)


def _serve() -> None:
    """Run the command of each line of standard input; print exit code and output as JSON."""
    more = ("datasets", "lingraft.bases", "peft", "tests.frozen_imports")
    SERVER.set_forkserver_preload([*IMPORTED, *more])
    for line in sys.stdin:
        arguments, cwd, environment, stdin = json.loads(line)
        done = start(*arguments, cwd=Path(cwd), environment=environment, stdin=stdin).finish()
        sys.stdout.write(f"{json.dumps([done.returncode, done.stdout, done.stderr])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
