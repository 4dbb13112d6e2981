"""The short form of `make torture`, and that it would see what it looks for."""

from __future__ import annotations

import os
import subprocess
import sys

from lingraft.store import Stage, Store
from tests.torture import ROOT, fingerprint, left_over


def test_killed_at_a_random_moment_and_resumed():
    """Runs and studies killed with SIGKILL and resumed end with equal files.

    So do several at once on one store.
    """
    command = [
        sys.executable,
        "-m",
        "tests.torture",
        "--kind",
        "tiny",
        "--rounds",
        "1",
        "--seed",
        "4",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("killed after") == 2
    assert (
        "2 kills from seed 4 on, and 3 processes at once: the same files as undisturbed ones"
        in done.stderr
    )


def test_leftovers_and_other_files_are_seen(tmp_path):
    """A leftover draft, lock or progress file is named; another file changes the fingerprint."""
    store, stage = Store(tmp_path / "runs" / ".store"), Stage("count", 1, {})
    folder = store.build(stage, lambda draft: draft.path("answer.txt").write_text("whole"))
    assert left_over(tmp_path) == []
    before = fingerprint(tmp_path)
    assert list(before) == [f"{folder.name}/answer.txt"]
    store.scratch_dir(stage)
    for name in (".x-0123abcd", ".x.lock", "x/model.tmp", ".store/locks/x.lock"):
        path = tmp_path / "runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert len(left_over(tmp_path)) >= 5
    other = Store(tmp_path / "other" / "runs" / ".store")
    other.build(stage, lambda draft: draft.path("answer.txt").write_text("other"))
    assert fingerprint(tmp_path / "other") != before
