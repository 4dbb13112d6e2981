"""Running studies: shared stages run once, failures are reported, lost workers are replaced."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

import huggingface_hub
import pytest
import yaml

import lingraft
from lingraft.errors import RecipeError, StoreError
from lingraft.measurement import read_measurements, select
from lingraft.pipeline import Run
from lingraft.recipe import Runtime
from lingraft.recipe.yaml import dump
from lingraft.store import Store
from lingraft.studies import (
    StudyFolder,
    StudyRuntime,
    cells_of,
    executors,
    read_study,
    run_study,
    study_plan,
)
from lingraft.studies.compared_metrics import known_metrics
from lingraft.studies.executors import Processes, Ray
from lingraft.studies.result_tables import warning_lines
from lingraft.studies.study_command import (
    StudyError,
    raise_for_failures,
    study_runtime,
)
from lingraft.studies.study_folder import open_scratch_dir
from lingraft.studies.study_runner import build_cell_graphs
from lingraft.studies.study_schedule import build_schedule
from lingraft.studies.study_table import COLUMNS
from tests.tiny_recipes import report, text_of, tiny_recipe


def die_once(marker: Path, folder: Path) -> None:
    """Kill this very process in the middle of a cell, the first time."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    report(folder)


@pytest.fixture
def study_file(tmp_path, tiny_model, hindi_file, english_file) -> Path:
    """Return a study of two inits and two seeds on a recipe that takes a second."""
    (tmp_path / "base.yaml").write_text(
        dump(
            tiny_recipe(
                tiny_model,
                name="base",
                target=text_of("hi", hindi_file),
                replay=text_of("en", english_file),
            )
        ),
        encoding="utf-8",
    )
    path = tmp_path / "study.yaml"
    path.write_text(
        dump(
            {
                "name": "trial",
                "question": "Which rows?",
                "recipe": "base.yaml",
                "axes": {"embeddings": ["mean", "random"]},
                "seeds": [0, 1],
            }
        ),
        encoding="utf-8",
    )
    return path


def done(
    path: Path, how: StudyRuntime, *overrides: str, write_report=report
) -> tuple[StudyFolder, list[str]]:
    lines: list[str] = []
    finished = run_study(
        read_study(path, overrides),
        how,
        write_report=write_report,
        folder=path.parent,
        log=lines.append,
    )
    return finished, lines


def check_built_once(finished: StudyFolder, store: Path) -> None:
    """Every output in the store is made by exactly one task, and some cell needs it."""
    made = Counter(one["key"] for one in finished.record["stages"]["made"])
    there = {folder.name.rsplit("-", 1)[1] for folder in (store / "answers").iterdir()}
    assert set(made.values()) == {1}
    assert set(made) == there
    assert len(there) == finished.record["stages"]["different"] < finished.record["stages"]["asked"]


def test_a_study_from_nothing_to_its_tables_and_not_twice(study_file, here):
    """Runs, tables and study.json agree; shared stages run once; a second run changes nothing."""
    finished, _ = done(study_file, StudyRuntime(here))
    record = finished.record
    assert [cell["status"] for cell in record["cells"]] == ["done"] * 4
    check_built_once(finished, here.store)
    assert record["stages"]["built_by_name"]["vocabulary"] == 1
    check_table(finished)
    assert [
        (row["first"], row["second"], row["language"], row["seeds"])
        for row in finished.differences()
    ] == [("mean", "random", "hi", 2)]
    before = {path: path.stat().st_mtime_ns for path in here.runs.rglob("*")}
    _, lines = done(study_file, StudyRuntime(here))
    assert "nothing to do" in lines[-1]
    assert {path: path.stat().st_mtime_ns for path in here.runs.rglob("*")} == before
    check_tables_are_kept(finished, study_file, here)
    raise_for_failures(finished)
    check_warnings(record)
    check_library(finished, study_file, here)


def check_tables_are_kept(finished: StudyFolder, study_file: Path, here: Runtime) -> None:
    """A table that was damaged or removed is written again, from the same runs."""
    table, curves = finished.folder / "table.csv", finished.folder / "curves.parquet"
    content = table.read_bytes()
    table.write_bytes(content[:-9])
    curves.unlink()
    again, lines = done(study_file, StudyRuntime(here))
    assert any("table.csv has " in line or "curves.parquet is missing" in line for line in lines)
    assert again.record["stages"]["made"] == []
    assert table.read_bytes() == content
    assert curves.is_file()


def check_warnings(record: dict) -> None:
    """Each warning of the cells is there once with its cells, and few documents order nothing."""
    warnings = {found["warning"]: found["cells"] for found in record["warnings"]}
    (few,) = [text for text in warnings if "in hi fit into evaluation.heldout_bytes" in text]
    assert "too few to judge" in few
    assert warnings[few] == [cell["name"] for cell in record["cells"]]
    assert f"warning: all 4 cells: {few}" in warning_lines(record)
    assert record["heldout"]["hi"].partition(" ")[0].isdigit()
    assert all(not ranked["carried"] for ranked in record["rankings"])
    assert "too few to order" in record["rankings"][0]["sentence"]


def check_library(finished: StudyFolder, study_file: Path, here: Runtime) -> None:
    """`lingraft.study` returns a finished study at once, from its file or from a mapping."""
    values = yaml.safe_load(study_file.read_text(encoding="utf-8"))
    values["recipe"] = str(study_file.parent / values["recipe"])
    lines: list[str] = []
    for definition in (study_file, values):
        again = lingraft.study(
            definition, runs=here.runs, store=here.store, device="cpu", log=lines.append
        )
        assert again == finished
    assert sum("nothing to do" in line for line in lines) == 2
    assert again.report.is_file()
    assert len(again.to_pandas()) == len(again.table())
    assert "cells, 0 failed" in str(again)
    assert "<td" in again._repr_html_()


def check_table(finished: StudyFolder) -> None:
    """The tidy table is the cells' measurements, row for row, beside what each cell is."""
    table = finished.table()
    assert {row["metric"].removesuffix(" change") for row in table} <= known_metrics()
    assert set(table[0]) == {name for name in COLUMNS if "NAME" not in name} | {"axis.embeddings"}
    for cell in finished.record["cells"]:
        rows = [row for row in table if row["cell"] == cell["name"]]
        assert {(row["axis.embeddings"], row["seed"]) for row in rows} == {
            (cell["labels"]["embeddings"], cell["seed"])
        }
        for one in Run(finished.cell(cell["name"])).measurements:
            assert [
                row["value"]
                for row in rows
                if (row["metric"], row["subject"], row["language"])
                == (one.metric, one.subject, one.language)
            ] == [one.value]
        (added,) = (row["value"] for row in rows if row["metric"] == "tokens added")
        assert added == 20
        curve = [
            row
            for row in finished.curves()
            if row["cell"] == cell["name"] and row["role"] == "target"
        ]
        assert [point["step"] for point in curve] == [0, 3]
    csv = (finished.folder / "table.csv").read_text(encoding="utf-8").splitlines()
    assert len(csv) == len(table) + 1


def test_cells_on_different_documents_have_no_order(study_file, here, tmp_path):
    """Two corpora with held-out text of their own are not compared; other axes still are.

    A metric that was not measured is told.
    """
    text = (tmp_path / "hi.txt").read_text(encoding="utf-8")
    (tmp_path / "other.txt").write_text(text.replace("नदी", "झील"), encoding="utf-8")
    corpora = [str(tmp_path / name) for name in ("hi.txt", "other.txt")]
    compare = [{"metric": "bits per byte"}, {"metric": "premium over English"}]
    values = yaml.safe_load(study_file.read_text(encoding="utf-8"))
    values |= {"axes": {"target.corpus": corpora, **values["axes"]}, "compare": compare}
    study_file.write_text(dump(values), encoding="utf-8")
    finished, _ = done(study_file, StudyRuntime(here))
    sentences = {one["axis"]: one["sentence"] for one in finished.record["rankings"]}
    assert "measured on different documents" in sentences["target.corpus"]
    assert "different documents" not in sentences["embeddings"]
    withheld = {(row["axis"], row["withheld"]) for row in finished.differences()}
    assert withheld == {
        ("target.corpus", "different documents"),
        ("embeddings", "too few documents"),
    }
    assert finished.record["different documents"] == [["target.corpus", "hi"]]
    (told,) = [found for found in warning_lines(finished.record) if "was not measured" in found]
    assert "premium over English (adapted, target)" in told


def test_a_file_of_the_user_in_a_cell_that_runs_again_is_told_first(study_file, here):
    """Nothing is built before, and the file stays where it is; a cell that is finished keeps it."""
    first, _ = done(study_file, StudyRuntime(here), "seeds=0")
    gguf = next(first.folder.glob("cells/mean-*")) / "model.gguf"
    gguf.write_bytes(b"GGUF")
    more, _ = done(study_file, StudyRuntime(here), "seeds=0", "embeddings=[mean,hf,random]")
    assert (more.folder / gguf.relative_to(first.folder)).read_bytes() == b"GGUF"
    record = gguf.parent / "run.json"
    changed = {**json.loads(record.read_text(encoding="utf-8")), "key": "of an earlier version"}
    record.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(StoreError, match=r"of this study holds model.gguf, .*move the file"):
        done(study_file, StudyRuntime(here), "seeds=0", "embeddings=[mean,hf,random,focus]")
    assert gguf.is_file()


def test_more_cells_later_make_only_what_is_missing(study_file, here):
    """A further value makes its own stages; the runs that were there are linked, not made again."""
    first, _ = done(study_file, StudyRuntime(here), "seeds=0")
    model = next(path for path in first.folder.glob("cells/mean-*/model/model.safetensors"))
    inode = model.stat().st_ino
    plan = study_plan(
        read_study(study_file, ["seeds=0", "embeddings=[mean,hf,random]"]), StudyRuntime(here)
    )
    assert [cell.state for cell in plan.cells] == ["finished", "to do", "finished"]
    second, lines = done(study_file, StudyRuntime(here), "seeds=0", "embeddings=[mean,hf,random]")
    assert lines[0].startswith("3 cells, 2 finished")
    assert (
        sum(stage.to_do for stage in plan.stages)
        == second.record["stages"]["built"]
        == len(second.record["stages"]["made"])
    )
    assert {one["stage"] for one in second.record["stages"]["made"]} <= {
        "embeddings",
        "result-check",
        "training",
        "scoring",
        "evaluation",
        "prediction",
    }
    assert model.stat().st_ino == inode


def test_a_failed_cell_is_named_and_the_others_go_on(study_file, here, tmp_path):
    """A broken value fails its cells with its error and an exit code.

    Once it is fixed, only these cells run.
    """
    text = tmp_path / "later.txt"
    sources = json.dumps([str(tmp_path / "hi.txt"), str(text)])
    given = ("seeds=0", f"target.corpus=[{json.dumps(str(tmp_path / 'hi.txt'))}, {sources}]")
    path = study_file
    path.write_text(
        path.read_text(encoding="utf-8").replace("embeddings:", "target.corpus:"), encoding="utf-8"
    )
    plan = study_plan(read_study(path, given), StudyRuntime(here))
    with pytest.raises(RecipeError, match=r"1 of 2 cells cannot run; the first .*: .*later.txt"):
        plan.raise_for_broken()
    finished, lines = done(path, StudyRuntime(here), *given)
    assert [cell["status"] for cell in finished.record["cells"]] == ["done", "failed"]
    (failure,) = finished.record["failures"]
    assert "later.txt" in failure["error"]
    with pytest.raises(StudyError, match="1 of 2 cells failed") as raised:
        raise_for_failures(finished)
    assert raised.value.study == finished
    text.write_text(
        "\n".join(f"एक छोटी चिड़िया {number} पेड़ पर गाती है।" for number in range(40)),
        encoding="utf-8",
    )
    study_plan(read_study(path, given), StudyRuntime(here)).raise_for_broken()
    mended, lines = done(path, StudyRuntime(here), *given)
    assert mended.record["failures"] == []
    assert lines[0].startswith("2 cells, 1 finished")


def test_a_hub_that_cannot_be_reached_is_asked_once_for_cells_with_the_same_model_and_text(
    study_file, monkeypatch
):
    """The Hub's client tries for 45 seconds each time."""
    asked = []

    def snapshot_download(model: str, **_: object) -> str:
        asked.append(model)
        raise huggingface_hub.errors.LocalEntryNotFoundError(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    given = ("model=a/b@main", "seeds=[0, 1]")
    cells = build_cell_graphs(read_study(study_file, given))
    assert len(cells.broken) == len(cells.cells) == 4
    assert all("a/b: the hub at" in error for error in cells.broken.values())
    assert asked == ["a/b"]


def test_what_breaks_inside_a_cell_is_told_with_its_trace(study_file, here):
    """A bug in one cell leaves the others whole, and its traceback in study.json."""

    def breaks_at_mean(folder: Path) -> None:
        if folder.name.startswith(".draft-mean-"):
            raise ZeroDivisionError("oh")
        report(folder)

    finished, _ = done(study_file, StudyRuntime(here), "seeds=0", write_report=breaks_at_mean)
    assert [cell["status"] for cell in finished.record["cells"]] == ["failed", "done"]
    assert "ZeroDivisionError: oh" in finished.record["failures"][0]["error"]
    assert "breaks_at_mean" in finished.record["failures"][0]["trace"]


def test_a_worker_takes_the_number_of_the_dead_one_that_it_replaces(monkeypatch):
    """Its number is that of its GPU: two workers must not share one."""
    made = []

    def start(number):
        made.append(executors._Worker(None, Pipe()[0], number))
        return made[-1]

    monkeypatch.setattr(executors, "_start", start)
    workers = []
    for _ in range(3):
        executors._send("task", workers, str)
    del workers[1]
    executors._send("task", workers, str)
    assert [worker.number for worker in made] == [0, 1, 2, 1]


def test_two_processes_one_of_them_killed(study_file, here, tmp_path):
    """A worker that dies during a cell is replaced and its cell reruns; nothing is built twice."""
    finished, _ = done(
        study_file,
        StudyRuntime(here, workers=2),
        "seeds=0",
        write_report=partial(die_once, tmp_path / "died"),
    )
    assert (tmp_path / "died").exists()
    assert finished.record["failures"] == []
    there = Counter(folder.name for folder in (here.store / "answers").iterdir())
    assert len(there) == finished.record["stages"]["different"]
    assert max(Counter(one["key"] for one in finished.record["stages"]["made"]).values()) == 1
    check_table(finished)
    assert list((here.store / "drafts").glob("*")) == []


def test_a_worker_that_always_dies_is_given_up(study_file, here):
    """After three deaths a task is failed, with the signal that ended them."""
    study = read_study(study_file, ["seeds=0", "embeddings=mean"])
    laid = build_cell_graphs(study, study_file.parent)
    schedule = build_schedule(
        laid.graphs, {cell.name: cell.recipe for cell in laid.cells}, Store(here.store)
    )
    outcomes = []
    Processes(1)(schedule, lambda _task: Suicide(), outcomes.append)
    assert len(outcomes) == 1
    assert "died 3 times, lastly killed by SIGKILL" in outcomes[0].error


class Suicide:
    """A packed task that kills the process which unpacks it."""

    def __reduce__(self):
        return os.kill, (_Own(), signal.SIGKILL)


class _Own:
    def __reduce__(self):
        return os.getpid, ()


@pytest.mark.usefixtures("local_ray")
def test_ray_with_two_workers_one_of_them_killed(study_file, here, tmp_path):
    """On a local Ray a lost worker's cell is done again by another one, and the study is whole."""
    ray = Ray(slots=2)
    finished, _ = done(
        study_file,
        StudyRuntime(here, workers=2, ray=ray),
        "seeds=0",
        write_report=partial(die_once, tmp_path / "died"),
    )
    assert (tmp_path / "died").exists()
    assert finished.record["failures"] == []
    assert finished.record["executor"] == "ray"
    check_table(finished)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_device_that_is_not_here_is_refused_before_anything_is_built(study_file, here, workers):
    """A study whose device is missing is an error of its own, not one of every cell."""
    missing = replace(here, device="cuda:99")
    with pytest.raises(RecipeError, match="--device cuda:99: this machine has"):
        done(study_file, StudyRuntime(missing, workers))
    assert not here.store.exists()
    assert not (here.runs / "trial").exists()


def test_a_store_that_cannot_be_written_is_one_error_of_the_study(study_file, here, tmp_path):
    """It is told before the first cell, which would fail like all others."""
    (tmp_path / "file").touch()
    how = StudyRuntime(replace(here, store=tmp_path / "file" / "store"))
    with pytest.raises(StoreError, match=r"file: cannot be written .* with --store"):
        done(study_file, how)
    assert not (here.runs / "trial").exists()


def test_a_mistake_in_the_tasks_does_not_wait_for_the_training_that_cells_share(
    study_file, here, tmp_path
):
    """Its cells fail before any stage is built, and a plan says so."""
    rows = [{"en": f"a {number}", "hi": f"b {number}"} for number in range(3)]
    (tmp_path / "flores.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tasks = {
        "names": ["flores-hi"],
        "data": {"flores": str(tmp_path / "flores.jsonl")},
        "num_fewshot": 3,
        "translation_metrics": ["chrF++"],
    }
    given = (f"evaluation.tasks={json.dumps(tasks)}", "seeds=[0]")
    with pytest.raises(RecipeError, match=r"2 of 2 cells cannot run; .* 3 few-shot examples are"):
        study_plan(read_study(study_file, given), StudyRuntime(here)).raise_for_broken()
    finished, _ = done(study_file, StudyRuntime(here), *given)
    failures = finished.record["failures"]
    assert len(failures) == 2
    assert all("3 few-shot examples are wanted, but" in failed["error"] for failed in failures)
    assert finished.record["stages"]["made"] == []


def test_a_folder_in_the_way_is_left_alone(study_file, here):
    """A folder that is no study is never touched, and nothing runs before that is known."""
    (here.runs / "trial").mkdir(parents=True)
    (here.runs / "trial" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="exists and is not a study"):
        done(study_file, StudyRuntime(here))
    (here.runs / "trial" / "study.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(StoreError, match="exists and is not a study"):
        done(study_file, StudyRuntime(here))
    assert not here.store.exists()


@pytest.mark.parametrize("name", ["notes.md", "cells/removed/model.gguf"])
def test_a_file_that_a_user_put_into_a_study_is_not_lost(tmp_path, name):
    """Files next to the tables, or in the run of a cell that the study no longer has, stay."""
    study, run = tmp_path / "trial", tmp_path / "trial" / "cells" / "removed"
    run.mkdir(parents=True)
    record = {"recipe": {}, "stages": [], "files": {}}
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (study / "study.json").write_text('{"cells": []}', encoding="utf-8")
    (study / name).write_text("mine", encoding="utf-8")
    with (
        pytest.raises(StoreError, match=f"trial: holds {name}, .*; choose another name"),
        open_scratch_dir(study, ["kept"]),
    ):
        pass
    (study / name).unlink()
    with open_scratch_dir(study, ["kept"]):
        pass
    assert not run.exists()


def test_options_that_would_not_act_are_refused():
    """Resources of a cluster without one, or an executor that is not known, are told."""
    with pytest.raises(RecipeError, match="did you mean 'ray'"):
        study_runtime(Runtime(), 2, "rays", "", (1.0, 0.0))
    with pytest.raises(RecipeError, match="--executor ray"):
        study_runtime(Runtime(), 2, "local", "", (1.0, 1.0))
    assert study_runtime(Runtime(), 2, "ray", "", (2.0, 1.0)).ray == Ray("", 2, 2.0, 1.0)


def test_measured_rows_are_those_of_a_single_run(study_file, here):
    """A cell of a study is the run that `adapt` would make of its recipe, number for number."""
    from lingraft.pipeline import run

    finished, _ = done(study_file, StudyRuntime(here), "seeds=0", "embeddings=mean")
    (cell,) = cells_of(read_study(study_file, ["seeds=0", "embeddings=mean"]))
    alone = run(
        cell.recipe,
        Runtime(here.runs / "alone", here.runs / "elsewhere", "cpu"),
        write_report=report,
    )
    rows = [
        select(read_measurements(folder / "measurements.parquet"), metric="bits per byte")
        for folder in (finished.cell(cell.name), alone.folder)
    ]
    assert rows[0] == rows[1]
