"""The command line: what it prints, and that bad input is one line, exit code 2 and no run."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lingraft.store import digest
from tests.commands import IMPORTED, LINGRAFT, lingraft, start

QUICK = [
    "-o",
    "vocabulary.size=10",
    "-o",
    "training={budget: 2 steps, batch_tokens: 64, heldout_points: 1}",
    "-o",
    "evaluation={heldout_bytes: 300, bootstrap: {resamples: 20}, generation: null}",
]


@pytest.fixture
def basic(tiny_model, hindi_file) -> dict[str, object]:
    """The options of a run that succeeds."""
    return {"--model": tiny_model, "--language": "hi", "--text": hindi_file, "--device": "cpu"}


def options(given: dict[str, object]) -> list[str]:
    return [str(part) for item in given.items() for part in item]


def test_help_and_version_import_little(tmp_path):
    """Help lists every command and imports no large library; reading recipes imports no torch."""
    done = lingraft("--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("adapt", "plan", "report", "settings", "version", "recipes/demo.yaml"):
        assert word in done.stdout
    import_log = subprocess.run(
        [sys.executable, "-X", "importtime", *LINGRAFT, "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    imported = set(re.findall(r"^import time:.*\| +(\w+)", import_log, re.MULTILINE))
    assert {"lingraft", "typer", "rich"} <= imported
    assert not imported & {
        "torch",
        "transformers",
        "numpy",
        "pyarrow",
        "datasets",
        "pydantic",
        "tokenizers",
        "yaml",
    }
    code = (
        "import sys, lingraft.cli, lingraft.recipe, lingraft.evaluation, lingraft.checkpoint\n"
        "heavy = ('torch', 'transformers', 'datasets', 'pyarrow', 'lingua')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )
    assert lingraft("version", cwd=tmp_path).stdout.startswith("lingraft 0.")


def test_settings_lists_the_settings_of_a_recipe(tmp_path):
    """`lingraft settings` shows paths, defaults and meanings; for an unknown path the nearest."""
    done = lingraft("settings", "vocabulary", cwd=tmp_path)
    assert "vocabulary.size" in done.stdout
    assert "10000" in done.stdout
    done = lingraft("settings", "vocabulry", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean vocabulary," in done.stderr
    done = lingraft("settings", "=3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no setting before `=`" in done.stderr


def test_adapt_without_a_recipe(basic, tmp_path):
    """Model, language and text are enough; the run holds its recipe; plan and report agree."""
    planned = json.loads(lingraft("plan", *options(basic), *QUICK, "--json", cwd=tmp_path).stdout)
    assert not any(row["cached"] for row in planned)
    done = lingraft("adapt", *options(basic), *QUICK, "--name", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tokens per word" in done.stdout
    assert "runs/mine/report.html" in done.stdout
    _first_run_explains_itself(done.stderr.splitlines(), done.stdout.splitlines())
    run = tmp_path / "runs" / "mine"
    used = yaml.safe_load((run / "recipe.yaml").read_text())
    assert used["target"]["language"] == "hi"
    assert used["vocabulary"]["size"] == 10
    again = lingraft("adapt", run / "recipe.yaml", "--json", cwd=tmp_path)
    assert "nothing to do" in again.stderr
    assert json.loads(again.stdout)["run"] == "runs/mine"
    planned = json.loads(lingraft("plan", run / "recipe.yaml", "--json", cwd=tmp_path).stdout)
    assert all(row["cached"] for row in planned)
    before = digest((run / "report.html").read_text())
    (run / "report.html").unlink()
    written = lingraft("report", "runs/mine", cwd=tmp_path).stdout
    assert written == "report runs/mine/report.html  card runs/mine/model/README.md\n"
    assert digest((run / "report.html").read_text()) == before


def _first_run_explains_itself(progress: list[str], printed: list[str]) -> None:
    """Check what comes first, what training says, and what stands after the table."""
    assert progress[0].startswith("mine: ")
    assert " learns Hindi: 10 tokens added, then trained on " in progress[0]
    assert progress[0].endswith(", without replay")
    assert re.match(r"text in hi: .* of \d+ stages to do, (about|at least) .* on cpu", progress[1])
    (warning,) = [line for line in progress if line.startswith("warning: replay: ")]
    assert progress.index(warning) == 2
    assert any(re.match(r"training: \d+ steps?, [0-9,]+ tokens in ", line) for line in progress)
    table = next(i for i, line in enumerate(printed) if line.startswith("metric "))
    assert printed.index(warning) < table
    assert any(line.startswith("held-out text: hi: ") for line in printed[table:])
    assert any("for Hindi" in line or "on Hindi" in line for line in printed[table:])
    assert printed[-2:] == [
        'model = AutoModelForCausalLM.from_pretrained("runs/mine/model")',
        'tokenizer = AutoTokenizer.from_pretrained("runs/mine/model")',
    ]


def spoil(what: str, given: dict[str, object], tmp_path: Path) -> list[str]:
    """Spoil one input of a good run; return additional arguments."""
    model, text = (
        Path(shutil.copytree(str(given["--model"]), tmp_path / "model")),
        tmp_path / "text.txt",
    )
    content = Path(str(given["--text"])).read_bytes()
    if what == "empty":
        text.write_bytes(b"")
    elif what == "blank":
        text.write_bytes(b"\n \n\t\n")
    elif what == "not utf-8":
        text.write_bytes(content[:300].rsplit(b"\n", 1)[0] + b"\n\xffx\n")
    elif what == "not utf-8 in gz":
        text = tmp_path / "text.txt.gz"
        text.write_bytes(gzip.compress(b"one\ntwo \xff\n"))
    elif what == "cut gz":
        text = tmp_path / "text.txt.gz"
        text.write_bytes(gzip.compress(content)[:-20])
    elif what == "unknown field":
        text = tmp_path / "text.jsonl"
        text.write_text(json.dumps({"body": "x", "id": 1}) + "\n")
    elif what == "not json":
        text = tmp_path / "text.jsonl"
        text.write_text('{"text": "a"}\n{"text": \n')
    elif what == "tokenizer does not fit":
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
        text.write_bytes(content)
    elif what == "weights cut short":
        (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:5000])
        text.write_bytes(content)
    else:
        text.write_bytes(content)
    given |= {"--model": model, "--text": text}
    changed = {
        "missing file": {"--text": tmp_path / "gone.txt"},
        "missing model": {"--model": tmp_path / "gone"},
        "malformed tag": {"--language": "hindi!"},
        "unknown language": {"--language": "xx"},
        "unknown device": {"--device": "gpu"},
        "missing device": {"--device": "cuda:99"},
    }
    given |= changed.get(what, {})
    extra = {
        "unknown key": ["-o", "vocabulary.siez=3"],
        "unknown method": ["-o", "embeddings.input=maen"],
        "unknown recipe": ["nowhere.yaml"],
        "empty name": ["--name", ""],
    }
    return extra.get(what, [])


BAD = {
    "missing file": ["gone.txt: no such file"],
    "empty": ["text.txt", "no document"],
    "blank": ["text.txt"],
    "not utf-8": ["text.txt", "UTF-8", "offset 220"],
    "not utf-8 in gz": ["text.txt.gz", "UTF-8", "offset 8"],
    "cut gz": ["text.txt.gz"],
    "unknown field": ["text.jsonl", 'no field "text"', "body, id"],
    "not json": ["text.jsonl:2:"],
    "malformed tag": ["target.language", "'hindi!'", "BCP-47"],
    "unknown language": ["target.language", "'xx'"],
    "unknown key": ["-o vocabulary.siez=3", "vocabulary.siez", "did you mean vocabulary.size"],
    "unknown method": ["embeddings.input", "did you mean 'mean'?"],
    "unknown recipe": ["nowhere.yaml: cannot be read"],
    "empty name": ["name: '' cannot be the name of a folder"],
    "unknown device": ["--device 'gpu'", "known: auto, cpu"],
    "missing device": ["--device cuda:99: this machine has"],
    "missing model": ["gone: not found"],
    "tokenizer does not fit": ["tokenizer does not fit the model", "319", "300"],
    "weights cut short": ["model.safetensors"],
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_in_one_line(basic, tmp_path, what):
    """Bad input is one line with the path or field, has exit code 2, and leaves no run."""
    extra = spoil(what, basic, tmp_path)
    done = lingraft("adapt", "--name", "bad", *options(basic), *QUICK, *extra, cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(errors), done.stdout) == (2, 1, ""), done.stderr
    assert "Traceback" not in done.stderr
    for part in BAD[what]:
        assert part in errors[0]
    assert ".store/drafts" not in errors[0]  # a folder that is gone by now
    assert left_in(tmp_path) == []


def left_in(folder: Path) -> list[str]:
    """Return the files under runs/, except finished stage outputs of the store."""
    runs = folder / "runs"
    drafts = list((runs / ".store" / "drafts").glob("*"))
    return [path.name for path in [*runs.glob("*"), *drafts] if path.name != ".store"]


def test_a_stopped_run_says_how_to_continue(basic, tmp_path):
    """SIGTERM in training saves and exits with 130 and one line; the same command finishes."""
    arguments = [
        "adapt",
        *options(basic),
        "-o",
        "vocabulary.size=10",
        "-o",
        QUICK[-1],
        "--name",
        "stopped",
        "-o",
        "training={budget: 120 steps, batch_tokens: 512, heldout_points: 0}",
    ]
    command = start(*LINGRAFT, *arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    logs = tmp_path / "runs" / ".store" / "work"
    while not any(log.stat().st_size for log in logs.glob("training-*/training.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    command.process.terminate()
    stopped = command.finish(60)
    assert stopped.returncode == 130, stopped.stderr
    assert "run the same command to resume" in stopped.stderr
    assert left_in(tmp_path) == []
    done = lingraft(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_signal_while_an_object_is_deleted_stops_the_command(tmp_path):
    """Python ignores what a `__del__` raises; the command stops nevertheless, in one line."""
    code = (
        "import os, signal, time\n"
        "from lingraft.cli import app as command, main\n"
        "class Group:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGTERM)\n"
        "def run(*_):\n"
        "    Group()\n"
        "    time.sleep(20)\n"
        "type(command).__call__ = run\n"
        "main()\n"
    )
    done = start("-c", code, cwd=tmp_path).finish(60)
    assert done.returncode == 130, done.stderr
    assert done.stderr == (
        "error: stopped; finished stages are stored, run the same command again to continue\n"
    )


def test_a_signal_is_not_taken_for_a_fault_of_the_tokenizer(basic, tmp_path):
    """Ctrl-C while transformers reads a tokenizer stops the command; no finding is stored."""
    code = (
        "import signal, transformers\n"
        "def stopped(*_, **__): signal.raise_signal(signal.SIGINT)\n"
        "transformers.AutoTokenizer.from_pretrained = stopped\n"
        "from lingraft.cli import main\nmain()"
    )
    done = start("-c", code, "adapt", *options(basic), *QUICK, cwd=tmp_path).finish()
    assert done.returncode == 130, done.stderr
    assert "error: stopped; finished stages are stored, run the same command" in done.stderr
    assert not list((tmp_path / "runs" / ".store" / "answers").glob("*check*"))


def test_bugs_show_a_traceback(tmp_path):
    """An error that the user cannot fix keeps its traceback and exits with 1."""
    code = (
        "import lingraft.recipe\ndef broken(*_, **__): raise ZeroDivisionError\n"
        "lingraft.recipe.chosen_recipe = broken\nfrom lingraft.cli import main\n"
        "import sys\nsys.argv = ['lingraft', 'plan', 'x.yaml']\nmain()"
    )
    done = start("-c", code, cwd=tmp_path).finish()
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_the_python_call(tiny_model, hindi_file, tmp_path):
    """lingraft.adapt() is the command line as a function."""
    import lingraft

    overrides = {
        "vocabulary.size": 10,
        "evaluation.generation": None,
        "evaluation.heldout_bytes": 300,
        "training": {"budget": "2 steps", "batch_tokens": 64},
    }
    run = lingraft.adapt(
        model=str(tiny_model),
        language="hi",
        text=str(hindi_file),
        overrides=overrides,
        runs=tmp_path / "runs",
        device="cpu",
    )
    assert run.report.is_file()
    assert {row.subject for row in run.measurements} == {"source", "spliced", "adapted"}


def test_the_modules_of_the_fork_server_can_be_imported():
    """A fork server skips modules that it cannot import, so each one must be importable."""
    for module in IMPORTED:
        importlib.import_module(module)
