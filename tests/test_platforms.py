"""What lingraft needs of the operating system: Linux and macOS are tested, Windows is prepared.

No test runs on Windows. These take away what only POSIX systems have.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lingraft.pipeline.run_folder import new_run_folder
from lingraft.store import DiskError, lock, try_lock
from lingraft.trainers.handover_checks import check_output
from tests.conftest import ROOT

WITHOUT_POSIX = """
import os, sys
for module in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[module] = None
for function in ("getuid", "geteuid", "killpg", "sched_getaffinity", "setsid", "sysconf"):
    if hasattr(os, function):
        delattr(os, function)
from pathlib import Path
from lingraft.store import Stage, Store
Store(Path("store")).build(Stage("x", 1, {}), lambda draft: draft.path("x").write_text("x"))
from lingraft.cli import main
main()
"""


def test_no_module_needs_what_only_posix_has(tiny_model, hindi_file, tmp_path):
    """Without POSIX modules and functions a stage is stored and a tokenizer is diagnosed.

    Output that is not UTF-8, as that of Windows, escapes letters that it lacks.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX, "diagnose", str(tiny_model)),
            *("--text", f"hi={hindi_file}", "--json"),
        ],
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode("cp1252"))
    assert [path.read_text() for path in tmp_path.glob("store/**/x-*/x")] == ["x"]


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """Without locks, `lock` lets the block run and says so, and no lock file is left."""

    def without(_descriptor, _operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    with lock(tmp_path / "one.lock") as held:
        assert held is False
    with try_lock(tmp_path / "one.lock") as held:
        assert held is False
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_a_lock_are_raised(tmp_path, monkeypatch):
    """An error other than missing locks is not taken for one."""

    def broken(_descriptor, _operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), lock(tmp_path / "one.lock"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a file system of Linux")
def test_a_lock_where_no_file_can_be_created_is_an_error_at_once():
    """A folder that takes no files is named, and nothing waits for a lock there."""
    for place in ("/proc/x", "/proc/x/y"):
        with (
            pytest.raises(DiskError, match=r"/proc/.*no file can be created there.*--output"),
            new_run_folder(Path(place), "--output"),
        ):
            pass
        with pytest.raises(DiskError, match=r"^/proc: cannot be written .*--output"):
            check_output(Path(place))
