"""Several processes that train one model together, over gloo on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lingraft import pipeline
from lingraft.cli import app
from lingraft.errors import RecipeError, TrainingError
from lingraft.packing.mixture import IGNORED, Mixture
from lingraft.recipe import Runtime, load_recipe
from lingraft.store import seed_of
from lingraft.training.checkpointing import latest_checkpoint
from lingraft.training.distributed import ProcessGroup
from lingraft.training.launch import Launch, launched, start_processes
from lingraft.training.phase_steps import TrainingText
from lingraft.training.step_loop import step_seed
from tests.commands import lingraft, start
from tests.conftest import ROOT
from tests.tiny_recipes import quick_evaluation, quick_training, tiny_recipe
from tests.training_cases import heldout, log_of, plan_of, run, two_streams, weights_of

PLAN: dict[str, Any] = {
    "phases": [
        {"strategy": "shielded", "budget": "2 steps", "batch_tokens": 160, "weight_decay": 0.1},
        {"strategy": "rows", "budget": "2 steps", "batch_tokens": 160},
        {
            "strategy": "differential",
            "budget": "6 steps",
            "batch_tokens": 160,
            "average_share": 0.5,
            "branch_and_merge": {"iterations": 2},
        },
    ],
}


@pytest.fixture(scope="module")
def text(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingText:
    return two_streams(tiny_model, tmp_path_factory.mktemp("text"))


def launch(model: Path, text: TrainingText, folder: Path, stop: int) -> list[tuple[int, str]]:
    """Train in two processes to their end; return the exit code and the output of each."""
    arguments = [model, text.target.folder.parent, folder, json.dumps(PLAN), stop]
    return launch_module("tests.sharded_run", *arguments)


def launch_module(module: str, *arguments: object) -> list[tuple[int, str]]:
    """Run two processes to their end; return the exit code and the output of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        place = {
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        started.append(
            start("-m", module, *arguments, cwd=ROOT, environment={**os.environ, **place})
        )
    ended = [process.finish() for process in started]
    return [(done.returncode, done.stdout or done.stderr) for done in ended]


def test_two_processes_train_as_one_and_go_on_as_one(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Two processes give the losses of one, and a stopped run resumes with either number.

    Each of two processes writes its own file of a checkpoint. Branches are merged as in one
    process, and all processes measure the merged model. A step reduces gradients once per sharded
    module, in float32, however many micro-batches it has; computing in
    bfloat16 halves the bytes of gathered weights; and gradients are those of one process. Only rank
    0 hashes checkpoints: the others get what it found, the error of another run's checkpoint too.
    """
    run(tiny_model, text, plan_of(**PLAN), tmp_path / "one", heldout=heldout)
    stopped = launch(tiny_model, text, tmp_path / "two", stop=5)
    assert [code for code, _ in stopped] == [130, 130], stopped
    assert "stopped by SIGTERM after step 9 of 10" in stopped[1][1]
    saved = latest_checkpoint(tmp_path / "two" / "work")
    assert saved is not None
    assert (saved.state["phase"], saved.state["step"]) == (2, 5)
    assert len(list(saved.folder.glob("*.safetensors"))) == 2
    assert not [
        path for path in saved.folder.iterdir() if path.suffix not in {".safetensors", ".json"}
    ]
    shutil.copytree(tmp_path / "two", tmp_path / "alone")
    went_on = launch(tiny_model, text, tmp_path / "two", stop=0)
    assert [code for code, _ in went_on] == [0, 0], went_on
    # Both processes measure the end.
    end = "ChunkedInsideLoss, opened shard by shard, measured 1 times, next to 0 other shards"
    assert [told.splitlines()[-1] for _, told in went_on] == [end, end]
    run(tiny_model, text, plan_of(**PLAN), tmp_path / "alone", heldout=heldout)
    (tmp_path / "joined").mkdir()
    shutil.copytree(tmp_path / "one" / "work", tmp_path / "joined" / "work")
    shutil.rmtree(tmp_path / "joined" / "work" / "step-00000010")
    assert [code for code, _ in launch(tiny_model, text, tmp_path / "joined", stop=0)] == [0, 0]
    expected = losses(tmp_path / "one")
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-5)
    assert losses(tmp_path / "alone") == pytest.approx(expected, rel=1e-5)
    assert losses(tmp_path / "joined") == pytest.approx(expected, rel=1e-5)
    whole = weights_of(tmp_path / "one" / "output" / "model")
    for other in ("two", "alone", "joined"):
        for name, tensor in weights_of(tmp_path / other / "output" / "model").items():
            torch.testing.assert_close(tensor, whole[name], rtol=0, atol=5e-4)
    refused = f"{tmp_path / 'two' / 'work'}: holds the progress of another run"
    for rank, (_, told) in enumerate(went_on):
        plain, bfloat16, (hashed, broadcast, error) = map(json.loads, told.splitlines()[:3])
        assert (hashed > 0) == (rank == 0)
        assert 0 < broadcast < 2000
        assert error.startswith(refused)
        for found in (plain, bfloat16):
            assert found["reductions"] == found["modules"] > 1
            assert found["reduced"] == found["types"] == ["torch.float32"]
        assert 2 * bfloat16["gathered"] == plain["gathered"]
        assert plain["difference"] < 1e-6
        # bfloat16 has 8 significant bits: one rounding is up to 0.004.
        assert bfloat16["difference"] < 0.02


@pytest.mark.parametrize("where", ["begin", "end"])
def test_a_checkpoint_that_the_first_process_cannot_write_is_an_error_of_all(
    tmp_path: Path, where: str
) -> None:
    """No process waits for one that has failed, and all say why, at the start and at the end."""
    ended = launch_module("tests.failing_checkpoint", tmp_path, where)
    assert [code for code, _ in ended] == [0, 0], ended
    (first, other) = (told for _, told in ended)
    assert first == other
    assert first.startswith("DiskError ")
    assert not list(tmp_path.glob("step-*"))


def losses(folder: Path) -> list[float]:
    """Return the losses of the steps, and those on held-out text."""
    rows = log_of(folder)
    curve = [row["heldout"]["hi"] for row in rows if "heldout" in row]
    assert [row["step"] for row in rows if "heldout" in row] == [0, 1, 2, 3, 4, 7, 10]
    return [row["bits_per_byte"] for row in rows if "bits_per_byte" in row] + curve


def test_each_process_draws_its_own_dropout() -> None:
    """Processes have other sequences, so masks differ; the first draws those of a single one."""
    seeds = {step_seed(7, 0, step, rank) for step in range(3) for rank in range(4)}
    assert len(seeds) == 12
    assert step_seed(7, 0, 2, ProcessGroup().rank) == seed_of([7, 0, 2])


def test_a_steps_rows_are_shared_out(tiny_model: Path, text: TrainingText) -> None:
    """Every process gets the same number of sequences; padding sequences are ignored."""
    batch = Mixture.of([(text.target, 1.0)], text.replay.blocks, 0.5).batch(0, 5)
    parts = [ProcessGroup(rank, 3).shard_batch(batch) for rank in range(3)]
    assert {len(part.inputs) for part in parts} == {2}
    taught = np.concatenate([part.inputs[(part.labels != IGNORED).any(axis=1)] for part in parts])
    assert np.array_equal(taught, batch.inputs)
    assert ProcessGroup().shard_batch(batch) is batch


def test_several_unsharded_processes_are_refused(
    tiny_model: Path, text: TrainingText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a launcher, two processes would each train an unsharded copy: that is an error."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="unsharded copy"):
        run(tiny_model, text, plan_of(budget="2 steps"), tmp_path)


def adapted(recipe: Path, *arguments: object) -> CompletedProcess[str]:
    """Run the real command to its end."""
    return lingraft("adapt", recipe, "--device", "cpu", *arguments, cwd=recipe.parent)


def recipe_file(model: Path, text: Path, folder: Path) -> Path:
    """Write a recipe of six steps."""
    recipe = tiny_recipe(
        model,
        name="run",
        target={"language": "hi", "corpus": str(text)},
        vocabulary={"size": 10},
        training=quick_training(6),
        evaluation=quick_evaluation(300),
    )
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def test_a_recipe_is_carried_out_by_two_processes(
    tiny_model: Path, hindi_file: Path, tmp_path: Path
) -> None:
    """`adapt --nproc 2` prints one table, and its losses are those of one process.

    A second call is done. Rank 0 builds all other stages, and each step counts its bytes once.
    """
    recipe = recipe_file(tiny_model, hindi_file, tmp_path)
    done = adapted(
        recipe, "--runs", "two", "--nproc", 2, "--trackers", "tensorboard", "--recompute"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report  ") == 1
    assert done.stderr.count("vocabulary  ") == 1
    assert len(list((tmp_path / "two" / "tracking" / "tensorboard" / "run").glob("events*"))) == 1
    runtime = Runtime(tmp_path / "one", device="cpu")
    pipeline.run(load_recipe(recipe), runtime, write_report=lambda _: None)
    rows = {
        name: [
            json.loads(line)
            for line in (tmp_path / name / "run" / "training.jsonl").read_text().splitlines()
        ]
        for name in ("one", "two")
    }
    pairs = zip(
        *([row for row in rows[name] if "bits_per_byte" in row] for name in ("one", "two")),
        strict=True,
    )
    for one, two in pairs:
        assert two["bits_per_byte"] == pytest.approx(one["bits_per_byte"], rel=1e-5)
        assert (two["bytes"], two["tokens"]) == (one["bytes"], one["tokens"])
    launch = Launch(1, 2)
    pipeline.run_as_worker(
        load_recipe(recipe), Runtime(tmp_path / "two", device="cpu", launch=launch)
    )


def test_a_process_that_is_killed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that the kernel ends for lack of memory leaves a line with the likely reason."""
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(killed))
    assert start_processes(1, ["adapt"]) == 128 + 9
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: process 1 of 1 was ended by SIGKILL: most likely by the kernel")


def place_of(rank: int, size: str = "2") -> dict[str, str]:
    """Return the variables that a launcher sets for a process."""
    place = {"WORLD_SIZE": size, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    return {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": ""}, "^WORLD_SIZE=2 without RANK: .*--nproc, and for one process unset WORLD_"),
        ({"RANK": "", "MASTER_ADDR": ""}, "^WORLD_SIZE=2 without RANK, MASTER_ADDR: "),
        ({"LOCAL_RANK": ""}, "^WORLD_SIZE=2 without LOCAL_RANK: "),
        ({"WORLD_SIZE": "x"}, "^WORLD_SIZE=x: expected a number; .*unset WORLD_SIZE$"),
        ({"WORLD_SIZE": "0"}, "^WORLD_SIZE=0: expected a number"),
        ({"RANK": "-1"}, "^RANK=-1: expected a number"),
        ({"RANK": "2"}, "^RANK=2: the ranks of WORLD_SIZE=2 processes are 0 to 1"),
    ],
)
def test_variables_of_a_launcher_that_are_wrong_are_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    """Variables with which the processes would not find each other are an error of the user."""
    for name, value in {**place_of(0), **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match=message):
        launched(None)


def test_nproc_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job file may export WORLD_SIZE alone: --nproc starts the processes, if more than one."""
    for processes in (1, 2):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.delenv("RANK", raising=False)
        assert launched(processes) is None
        assert "WORLD_SIZE" not in os.environ


def test_processes_do_not_share_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a device means one process: all of a launch would train on it."""
    wrong = "--device cuda:1: 2 processes need a device each; give --device cuda "
    with pytest.raises(RecipeError, match=wrong):
        Runtime(device="cuda:1", launch=Launch(0, 2))
    started: list[int] = []
    monkeypatch.setattr(
        "lingraft.training.launch.start_processes", lambda count, _: started.append(count) or 0
    )
    for device, ends in (("cuda:1", wrong), ("cpu", "^$")):
        arguments = ["adapt", str(ROOT / "recipes" / "demo.yaml"), "--device", device]
        done = CliRunner().invoke(app, [*arguments, "--nproc", "2"])
        assert re.search(ends, "" if done.exit_code == 0 else str(done.exception)), done.output
    assert started == [2]
    assert Runtime(device="cuda:1").launch is None


def test_a_launchers_variables_are_there_for_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher's variables are removed from the environment; one process is no launch."""
    for name, value in place_of(1, "3").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match="--nproc 2, but a launcher started 3 processes"):
        launched(2)
    assert not {"WORLD_SIZE", "RANK", "LOCAL_RANK"} & set(os.environ)
    assert launched(2) is None


def test_a_dry_run_of_several_processes_is_shown_by_the_first(tiny_model, hindi_file, tmp_path):
    """The other processes of a launcher end at once and print nothing."""
    variables = place_of(1)
    options = ["--model", tiny_model, "--language", "hi", "--text", hindi_file, "--dry-run"]
    done = lingraft("adapt", *options, cwd=tmp_path, environment={**os.environ, **variables})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
