"""Workers: the same results in the same order with every executor."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lingraft.errors import LingraftError, MissingExtraError, RecipeError, StoreError
from lingraft.workers import EXECUTORS, Workers, cluster


def power(base: int, exponent: int) -> tuple[int, int]:
    """Return a power and who computed it."""
    return base**exponent, os.getpid()


def late(folder: Path, piece: int) -> int:
    """Finish the first item after the second one."""
    if piece == 0:
        deadline = time.monotonic() + 60
        while not (folder / "1").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    (folder / str(piece)).touch()
    return piece


def dying(folder: Path, piece: int) -> int:
    """Kill the process that gets the second item, the first time."""
    if piece == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(9)
    return piece


def broken(name: str, _piece: int) -> None:
    """Raise an error that names a file."""
    msg = f"{name}: cannot be read; run again"
    raise StoreError(msg)


def killing(_shared: int, _piece: int) -> None:
    """Kill this process."""
    os._exit(9)


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_results_are_those_of_one_process_in_order(executor: str, tmp_path: Path) -> None:
    """Several workers give the results of one, in the order of the items."""
    workers = Workers(2, executor)
    found = list(workers.map(power, 3, range(9)))
    assert [value for value, _ in found] == [
        value for value, _ in Workers().map(power, 3, range(9))
    ]
    assert os.getpid() not in {process for _, process in found}
    assert list(workers.map(late, tmp_path, range(4))) == [0, 1, 2, 3]


def test_pieces_are_taken_as_they_are_needed() -> None:
    """At most two items per worker are pending, so that memory does not grow with the text."""
    taken = []

    def pieces():
        for piece in range(100):
            taken.append(piece)
            yield piece

    results = Workers(2).map(power, 2, pieces())
    next(results)
    assert len(taken) <= 4


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_a_lost_task_is_done_again(executor: str, tmp_path: Path) -> None:
    """A worker that dies only costs time."""
    assert list(Workers(2, executor).map(dying, tmp_path, range(8))) == list(range(8))
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_an_error_in_a_worker_is_one_line(executor: str) -> None:
    """An error that the user can fix has the same message from a worker as from this process."""
    with pytest.raises(StoreError) as caught:
        list(Workers(2, executor).map(broken, "corpus", [0]))
    assert str(caught.value) == "corpus: cannot be read; run again"


def test_work_that_always_kills_its_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is not repeated for ever."""
    monkeypatch.setattr("lingraft.workers.RETRIES", 0)
    with pytest.raises(LingraftError, match="--workers 2: workers ended unexpectedly 1 times"):
        list(Workers(2).map(killing, 0, range(2)))


def test_what_cannot_be_sent_to_a_worker_is_an_error() -> None:
    """A function that has no name in a module is refused at once; nothing waits for it."""
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        list(Workers(2).map(lambda *_: None, 1, [1, 2, 3]))


def test_a_script_without_a_guard_is_an_error(
    tmp_path: Path,
) -> None:
    """Workers import the main script; one that starts workers at once ends with the reason."""
    script = tmp_path / "script.py"
    # Larger than a pipe holds: Python would wait forever for a worker that has ended to read it.
    script.write_text(
        "import lingraft.workers\n"
        "lingraft.workers.RETRIES = 0\n"
        "print(list(lingraft.workers.Workers(2).map(pow, 'x' * 10**6, [1])))\n"
    )
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 1
    assert 'put its code under `if __name__ == "__main__":`' in ended.stderr
    assert "workers ended unexpectedly 1 times" in ended.stderr.splitlines()[-1]


def test_options_that_would_not_act_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown executor, an address without Ray and a missing Ray are each one line."""
    with pytest.raises(RecipeError, match="did you mean 'ray'"):
        Workers(2, "rai")
    with pytest.raises(RecipeError, match="needs --executor ray"):
        Workers(2, "local", "10.0.0.1:6379")
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"lingraft\[ray\]"), cluster("", 1):
        pass
