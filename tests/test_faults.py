"""Faults around a run: full disk, two processes, damage, a read-only model, a clock that jumps."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lingraft.pipeline import Run, build_graph, run
from lingraft.recipe import Recipe, Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.store import Stage, Store, file_digest
from tests.command_server import CommandServer
from tests.test_store import flipped, left_over
from tests.tiny_recipes import report, text_of, tiny_recipe
from tests.torture import ROOT

DEADLINE = 60
NAMESPACE = ["unshare", "-rm"]
POWERLESS = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
]
"""Before a command: root without the right to write what is read-only."""


def may_mount() -> bool:
    """Say whether this user may mount in a namespace of their own."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def test_a_disk_that_is_full_at_every_stage(tmp_path):
    """A full disk gives one line with stage, path and what to do, and exit code 2.

    What was stored stays; with room the run goes on.
    """
    mounts = may_mount()
    command = [
        sys.executable,
        "-m",
        "tests.full_disk",
        str(tmp_path),
        *(["tmpfs"] if mounts else []),
    ]
    done = subprocess.run(
        [*(NAMESPACE if mounts else []), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    outcomes = json.loads(done.stdout)
    *failed, finished = outcomes["growing"]
    stored: set[str] = set()
    for outcome in failed:
        assert stage_without_room(outcome) in {
            "source",
            "corpus",
            "source-check",
            "vocabulary",
            "embeddings",
            "result-check",
            "training",
        }
        assert stored <= set(outcome["stored"])
        stored = set(outcome["stored"])
    assert len(stored) >= 3
    *failed, mended = outcomes["shrinking"]
    assert [stage_without_room(outcome) for outcome in failed] == [
        outcome["stage"] for outcome in failed
    ]
    assert {outcome["stage"] for outcome in failed} == {
        "source",
        "corpus",
        "source-check",
        "vocabulary",
        "embeddings",
        "result-check",
        "packing",
        "training",
        "scoring",
        "evaluation",
        "prediction",
        "tiny-hi",
    }
    for outcome in (finished, mended):
        assert (outcome["code"], outcome["left"], outcome["damaged"]) == (0, [], [])
    assert mended["stored"] == finished["stored"]


def stage_without_room(outcome: dict) -> str:
    """Return the stage that a failed attempt names, after checks of everything else about it."""
    errors = [line.removeprefix("error: ") for line in outcome["told"] if "error" in line.lower()]
    assert (outcome["code"], len(errors), outcome["damaged"]) == (2, 1, []), outcome
    reason = {
        "tmpfs": "0 MiB free",
        "limit": "file size limit of the file system or of `ulimit -f`",
    }[outcome["kind"]]
    where, told, advice = errors[0].partition(f": no space left on the disk ({reason}); ")
    stage, _, path = where.partition(": ")
    assert told, errors
    assert (
        f"choose another location with --{'runs' if not path else 'store'}; finished work is kept"
        in advice
    )
    # Only the progress of the stage may be left, in its scratch folder in the store.
    assert all("work" in Path(left).parts for left in outcome["left"]), outcome["left"]
    assert stage.startswith("runs/") or path.startswith("runs/.store")
    return stage.removeprefix("runs/")


ANSWER = """
import sys, time
from pathlib import Path
from lingraft.store import Stage, Store
root, version, text, go = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
def make(draft):
    draft.path("answer.txt").write_text(text)
    (root / f"{text}.making").touch()
    while not go.exists():
        time.sleep(0.01)
print((Store(root).build(Stage("count", version, {}), make) / "answer.txt").read_text())
"""


class Answering:
    """A process that answers a stage with a text, as soon as the file `go` is there."""

    def __init__(self, root: Path, version: int, text: str, go: Path) -> None:
        self.told, self.making = root / f"{text}.told", root / f"{text}.making"
        with self.told.open("w") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ANSWER, root, str(version), text, go],
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
            )

    def until(self, path: Path, text: str = "") -> None:
        """Wait for a file that holds a text."""
        deadline = time.monotonic() + DEADLINE
        while not (path.exists() and text in path.read_text()):
            assert time.monotonic() < deadline, self.told.read_text()
            time.sleep(0.01)

    def answer(self) -> str:
        """Wait for the answer."""
        return self.process.communicate(timeout=DEADLINE)[0].strip()


@pytest.mark.parametrize("killed", [False, True])
def test_two_processes_with_one_question(tmp_path, killed):
    """Two processes: one builds the output, the other says that it waits and then uses it.

    If the builder is killed, the other takes over.
    """
    go = tmp_path / "go"
    first = Answering(tmp_path, 1, "first", go)
    first.until(first.making)
    second = Answering(tmp_path, 1, "second", go)
    second.until(second.told, "another process is building count; waiting for it")
    if killed:
        first.process.kill()
        second.until(second.making)
    go.touch()
    assert [first.answer(), second.answer()] == (["", "second"] if killed else ["first", "first"])
    assert second.making.exists() == killed
    assert left_over(tmp_path) == []


def test_two_processes_with_different_questions(tmp_path):
    """Neither waits for the other, nor takes the other's draft away."""
    one, other = (
        Answering(tmp_path, version, f"answer {version}", tmp_path / "go") for version in (1, 2)
    )
    one.until(one.making)
    other.until(other.making)
    (tmp_path / "go").touch()
    assert [one.answer(), other.answer()] == ["answer 1", "answer 2"]
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("moment", [0, 4_000_000_000])
def test_a_clock_that_jumps(tmp_path, moment):
    """Times in the far past or future make no output stale and change no lock's or draft's age."""
    store, stage = Store(tmp_path), Stage("count", 1, {})
    folder = store.build(stage, lambda draft: draft.path("answer.txt").write_text("whole"))
    holder = Answering(tmp_path, 2, "held", tmp_path / "go")
    holder.until(holder.making)
    (tmp_path / "drafts" / "count-0123-01234567").mkdir()
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.utime(path, (moment, moment))
    assert Store(tmp_path).build(stage, lambda _draft: pytest.fail("made again")) == folder
    assert len(left_over(tmp_path)) == 2  # lock and draft of the process that is at work
    (tmp_path / "go").touch()
    assert holder.answer() == "held"
    assert left_over(tmp_path) == []


@pytest.fixture
def recipe(tiny_model, hindi_file, tmp_path) -> Recipe:
    """Return a recipe on a model whose folder nobody may write to."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    for path in [*model.iterdir(), model]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return parse_recipe(Tree(tiny_recipe(model, target=text_of("hi", hindi_file))))


def carry_out(recipe: Recipe, runtime: Runtime) -> tuple[Run, list[str], list[str]]:
    """Run a recipe; return the run, the names of the stages that were made, and what was told."""
    lines: list[str] = []
    finished = run(recipe, runtime, write_report=report, log=lines.append)
    return (
        finished,
        [stage["name"] for stage in finished.record["stages"] if not stage["cached"]],
        lines,
    )


def test_damage_between_runs_is_found_and_mended(recipe, tmp_path, capsys):
    """An edit in a run folder or a flipped bit is named; only that stage is built again."""
    here = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    model = tmp_path / "model"
    before = {path.name: file_digest(path) for path in model.iterdir()}
    finished, _, _ = carry_out(recipe, here)
    weights = finished.model_path / "model.safetensors"
    whole = file_digest(weights)
    flipped(weights)
    _, made, lines = carry_out(recipe, here)
    assert (
        f"{weights} changed since it was written (checksum differs); writing the run folder again"
        in lines
    )
    assert (made, file_digest(weights)) == (["training"], whole)
    assert "training" in capsys.readouterr().err
    graph = build_graph(recipe)
    for node in (graph.source, graph.vocabulary, graph.training, graph.evaluation):
        answer = Store(here.store).folder(node.stage)
        files = [path for path in answer.rglob("*") if path.is_file() and not path.is_symlink()]
        largest = max(
            (path for path in files if path.name != "manifest.json"),
            key=lambda path: path.stat().st_size,
        )
        flipped(largest)
        shutil.rmtree(here.runs)
        _, made, _ = carry_out(recipe, here)
        assert made == [node.stage.name]
        line = (
            f"{largest} changed since it was written (checksum differs); building {made[0]} again\n"
        )
        assert line in capsys.readouterr().err
    assert file_digest(here.runs / "tiny" / "model" / "model.safetensors") == whole
    assert {
        path.name: file_digest(path) for path in model.iterdir()
    } == before  # the read-only model is as it was


def test_a_clock_that_goes_backwards(recipe, tmp_path, monkeypatch):
    """If the clock goes back an hour at each reading, the same run gives the same files."""
    there, here = (
        Runtime(runs=tmp_path / name, store=tmp_path / f"{name}-store", device="cpu")
        for name in ("there", "here")
    )
    carry_out(recipe, there)
    hours = itertools.count(400_000, -1)
    monkeypatch.setattr(time, "time", lambda: next(hours) * 3600.0)
    monkeypatch.setattr(time, "time_ns", lambda: next(hours) * 3600 * 10**9)
    finished, made, _ = carry_out(recipe, here)
    assert len(made) == len(finished.record["stages"])
    files = [
        {
            path.relative_to(runtime.runs): file_digest(path)
            for path in runtime.runs.rglob("*.safetensors")
        }
        for runtime in (there, here)
    ]
    assert files[0] == files[1] != {}
    assert finished.record["finished"] < finished.record["started"]  # told as it was seen
    assert carry_out(recipe, here)[2] == [
        f"{here.runs / 'tiny'}: this run is finished already, nothing to do"
    ]


@pytest.fixture(scope="module")
def powerless() -> Iterator[CommandServer]:
    """Return what runs commands without root's right to write everywhere."""
    is_root = os.geteuid() == 0
    if (
        is_root
        and subprocess.run([*POWERLESS, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("as root, only setpriv can take away the right to write everywhere")
    with CommandServer(os.environ, POWERLESS if is_root else ()) as commands:
        yield commands


@pytest.mark.parametrize("what", ["the model", "the place of the runs"])
def test_folders_that_may_not_be_written(what, recipe, powerless, tmp_path):
    """A model that its user may only read is not changed; a read-only run folder is an error."""
    folder = tmp_path / "model" if what == "the model" else tmp_path / "closed"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    before = {
        path.name: (file_digest(path), path.stat().st_mtime_ns)
        for path in (tmp_path / "model").iterdir()
    }
    values = recipe.model_dump(mode="json", by_alias=True)
    (tmp_path / "tiny.yaml").write_text(json.dumps(values), encoding="utf-8")
    runs = (tmp_path if what == "the model" else folder) / "runs"
    command = ["-m", "lingraft", "adapt", tmp_path / "tiny.yaml", "--device", "cpu", "--runs", runs]
    done = powerless.python(*command, cwd=tmp_path)
    if what == "the model":
        assert done.returncode == 0, done.stderr
        assert (runs / "tiny" / "model" / "model.safetensors").is_file()
    else:
        assert done.returncode == 2
        assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
            done.stderr.strip()
        ]
        assert "no permission to read or write" in done.stderr
        assert "use another path" in done.stderr
        assert list(folder.iterdir()) == []
    after = {
        path.name: (file_digest(path), path.stat().st_mtime_ns)
        for path in (tmp_path / "model").iterdir()
    }
    assert after == before
