"""The command line: first recipes, checks of the machine, JSON, colours, completion."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from lingraft.cli import COMMANDS
from lingraft.cli.doctor import MachineCheck, is_ready
from lingraft.cli.init import _ask_missing
from lingraft.cli.options import print_json, print_table
from lingraft.errors import RecipeError
from lingraft.recipe import Given, load_recipe
from lingraft.recipe.load import commented_recipe
from tests.commands import LINGRAFT, lingraft
from tests.conftest import ROOT

PROGRAM = (sys.executable, *LINGRAFT)
ANSI = "\x1b["


def test_init_writes_a_recipe_that_plan_accepts(tiny_model, hindi_file, english_file, tmp_path):
    """With --yes init asks nothing; the recipe has the values and comments, and plan reads it."""
    options = [
        "--model",
        tiny_model,
        "-l",
        "hi",
        "-t",
        hindi_file,
        "--base-text",
        english_file,
        "--size",
        "20",
    ]
    done = lingraft("init", "mine.yaml", *options, "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert (recipe.target.language, recipe.replay.language, recipe.vocabulary.size) == (
        "hi",
        "en",
        20,
    )
    assert recipe.run_name == "mine-hi"
    assert (tmp_path / "mine.yaml").read_text().count("#") > 10
    # Options as people write them: a space in a list, Python's spelling of true.
    written = ["--trackers", "tensorboard , ", "--compile", "True"]
    planned = lingraft("adapt", "mine.yaml", "--dry-run", "--json", *written, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    same = lingraft("plan", "mine.yaml", "--json", cwd=tmp_path)
    stages, again = (
        [(row["title"], row["key"]) for row in json.loads(one.stdout)] for one in (planned, same)
    )
    assert stages == again
    assert not (tmp_path / "runs" / "mine-hi").exists()
    again = lingraft("init", "mine.yaml", *options, "--yes", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_init_asks_on_a_terminal(tiny_model, hindi_file, tmp_path):
    """Init asks for what the options do not give; an empty answer means no replay."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "init", "asked.yaml", "--model", str(tiny_model)],
        cwd=tmp_path,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(mine, f"hi\n{hindi_file}\n\n".encode())
    output, errors = process.communicate(timeout=60)
    os.close(mine)
    os.close(theirs)
    assert process.returncode == 0, errors
    assert "Target language" in output + errors
    recipe = load_recipe(tmp_path / "asked.yaml")
    assert recipe.target.language == "hi"
    assert recipe.replay is None


@pytest.mark.parametrize(("text", "empty"), [("hi.txt", "none"), ("", "web text from the Hub")])
def test_init_says_what_an_empty_answer_means(text, empty, tmp_path, monkeypatch):
    """Without text, the recipe gets replay text from the Hub; with text of its own, none."""
    asked = []

    def answer(question: str, **_options: object) -> str:
        asked.append(question)
        return text if question.startswith("Text in the target language") else ""

    monkeypatch.setattr("typer.prompt", answer)
    given = _ask_missing(Given(model="m", language="hi"))
    assert asked[-1].endswith(f"for replay (empty for {empty})")
    (tmp_path / "r.yaml").write_text(commented_recipe(given, tmp_path / "r.yaml"))
    assert (load_recipe(tmp_path / "r.yaml").replay is None) == (empty == "none")


def test_init_without_answers_says_what_is_missing(tmp_path):
    """Without a terminal init asks nothing: the error names what is missing; nothing is written."""
    done = lingraft("init", "none.yaml", "-l", "hi", cwd=tmp_path)
    assert done.returncode == 2
    assert "model must be known" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_refuses_a_place_where_no_file_can_be_created(tmp_path):
    """/proc and other file systems of the kernel say that a new file does not exist."""
    done = lingraft("init", "/proc/x.yaml", "-m", "a/b", "-l", "hi", "--yes", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: /proc: cannot be written (no file can be created there); change its permissions\n"
    )


@pytest.mark.parametrize("model", ["a/b", 'with "quotes"', "colon: and # hash", "ünï"])
def test_what_is_given_reads_back(model, tmp_path):
    """The recipe holds a path with any characters unchanged; an invalid tag is refused."""
    (tmp_path / "r.yaml").write_text(
        commented_recipe(Given(model, "ta", ["a b.txt"]), tmp_path / "r.yaml")
    )
    held = load_recipe(tmp_path / "r.yaml").model
    assert getattr(held, "path", None) == model or getattr(held, "id", None) == model
    with pytest.raises(RecipeError, match="BCP-47"):
        commented_recipe(Given(model, "tamil!", ["x.txt"]), tmp_path / "r.yaml")


def test_init_writes_what_other_commands_take_for_a_recipe(tmp_path, tiny_model):
    """Its name decides whether the argument of `plan` is a recipe; a run is named in ASCII."""
    options = ("--model", str(tiny_model), "-l", "hi", "--text", "a.txt", "--yes")
    done = lingraft("init", "mine", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: mine: the name of a recipe must end in .yaml or .yml")
    assert not list(tmp_path.iterdir())
    given = Given(str(tiny_model), "hi", ["a.txt"])
    for stem in ("हिन्दी", "n" * 200, "my recipe"):
        text = commented_recipe(given, tmp_path / f"{stem}.yaml")
        assert re.search(r'^name: "[A-Za-z-]{1,70}-{language}"$', text, re.MULTILINE)


def test_doctor_works_without_a_network(tmp_path):
    """Doctor reports devices, memory and disk; a missing Hub is a note; no token is printed."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_TOKEN": "hf_secret",
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [*PROGRAM, "doctor", "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {line["what"]: line for line in json.loads(done.stdout)}
    assert {"Python", "torch", "CPU", "memory", "disk", "Hub", "Hub token"} <= set(found)
    assert found["Hub"]["verdict"] == "note"
    assert "does not respond" in found["Hub"]["found"]
    assert found["Hub token"]["found"] == "is set"
    assert "hf_secret" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []  # doctor writes nothing
    missing = [line for line in found.values() if line["found"] == "not installed"]
    shown = lingraft("doctor", cwd=tmp_path).stdout
    assert all(line["advice"] in " ".join(shown.split()) for line in missing)


def test_a_machine_is_ready_unless_a_check_is_bad():
    """Notes do not stop a run; one bad check does."""
    notes = [MachineCheck("GPU", "none", "note"), MachineCheck("disk", "1 GiB")]
    assert is_ready(notes)
    assert not is_ready([*notes, MachineCheck("torch", "not installed", "bad")])


def test_colours_are_off_without_a_terminal_and_with_no_color(tmp_path):
    """Help has no colours without a terminal, and none on a terminal with NO_COLOR."""
    assert ANSI not in lingraft("--help", cwd=tmp_path).stdout
    colours = [
        on_a_terminal(["settings", "licences"], tmp_path, **setting)
        for setting in ({}, {"NO_COLOR": "1"})
    ]
    assert ANSI + "1m" in colours[0]
    assert "licences.result" in colours[1]
    assert ";3" not in colours[1]  # no colour; bold is no colour


def on_a_terminal(arguments: list[str], cwd: Path, **settings: str) -> str:
    mine, theirs = pty.openpty()
    environment = {
        name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}
    }
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=cwd,
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env=environment | {"TERM": "xterm-256color"} | settings,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(mine, 65536):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    process.wait(timeout=60)
    os.close(mine)
    return shown.decode()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell, tmp_path):
    """Completion in each shell offers the commands."""
    words = {
        "bash": {"COMP_WORDS": "lingraft di", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "lingraft di"},
        "fish": {"_TYPER_COMPLETE_ARGS": "lingraft di", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    program = Path(sys.executable).with_name("lingraft")
    done = subprocess.run(
        [program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_LINGRAFT_COMPLETE": f"complete_{shell}", **words[shell]},
    )
    assert "diagnose" in done.stdout


def test_every_command_has_help_and_json(tmp_path):
    """The help of each command starts with a sentence; commands with results can print JSON."""
    for commands in COMMANDS.values():
        for command in commands:
            first = (command.__doc__ or "").partition("\n")[0]
            assert first.endswith("."), command.__name__
            assert "as_json" in command.__annotations__ or command.__name__ == "init", (
                command.__name__
            )
    for command in (["version"], ["settings", "vocabulary"]):
        assert json.loads(lingraft(*command, "--json", cwd=tmp_path).stdout)


@pytest.mark.parametrize(
    "command",
    [
        "report NAME",
        "evaluate NAME --text hi=a.txt",
        "diagnose NAME --text hi=a.txt",
        "study NAME",
        "adapt NAME",
        "adapt RECIPE --runs NAME",
        "export NAME --gguf x",
    ],
)
def test_a_name_that_is_too_long_for_a_file_is_one_line(command, tmp_path):
    """A name of four hundred characters is an error in one line, with exit code 2."""
    (tmp_path / "a.txt").write_text("text\n" * 50)
    words = [
        {"NAME": "9" * 400, "RECIPE": str(ROOT / "recipes" / "demo.yaml")}.get(word, word)
        for word in command.split()
    ]
    done = lingraft(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


def test_without_generation_the_plan_knows_the_time_of_the_evaluation(
    tiny_model, hindi_file, tmp_path
):
    """An evaluation that times no generation takes seconds, not an unknown time."""
    planned = lingraft(
        *("plan", tiny_model, "-l", "hi", "-t", hindi_file, "--json"),
        *("-o", "evaluation.generation=null"),
        cwd=tmp_path,
    )
    seconds = {row["title"]: row["seconds"] for row in json.loads(planned.stdout)}
    assert seconds["evaluation"] > 0


def test_a_file_in_the_place_of_a_folder_is_one_line(tiny_model, hindi_file, tmp_path):
    """`--runs FILE` is an error of the user, without a traceback."""
    (tmp_path / "taken").touch()
    named = ("--model", tiny_model, "-l", "hi", "-t", hindi_file, "--runs", "taken")
    done = lingraft("adapt", *named, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("taken: is a file, where a folder is expected; use another path\n")
    assert "Traceback" not in done.stderr


def test_a_table_is_printed_without_standard_output(monkeypatch):
    """A process that was started without standard output does not end in a traceback."""
    monkeypatch.setattr(sys, "stdout", None)
    print_table("row")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_in_every_encoding(monkeypatch, encoding):
    """Letters that the encoding of standard output lacks are escaped as JSON escapes them."""
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stdout)
    value = {"café": "हिन्दी \U0001f600"}
    print_json(value)
    stdout.flush()
    assert json.loads(written.getvalue().decode(encoding)) == value


def test_cells_of_tables_are_printed_as_they_are(capsys):
    """A name in brackets is no style of `rich`, and one in colons is no picture."""
    table = Table("[old]", title="[bold]")
    table.add_row(":x: [/]")
    print_table(table)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[old]", "[bold]", ":x: [/]"))


@pytest.mark.skipif(sys.platform == "darwin", reason="file names of macOS are UTF-8")
@pytest.mark.parametrize("command", ["plan --model m/m -l hi -t", "init r.yaml -m m/m -l hi -t"])
def test_a_name_that_is_not_utf_8_is_one_line(tmp_path, command):
    """A file name in another encoding is an error of the user, with exit code 2."""
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    file.write_text("text\n" * 50)
    done = subprocess.run(
        [*PROGRAM, *command.split(), b"caf\xe9.txt"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"},
        capture_output=True,
        check=False,
    )
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("error: 'caf\\udce9.txt': this argument is not utf-8"), last
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == [file]


def test_the_store_may_be_the_current_folder(tmp_path):
    """`--store .` is the current folder, and not the default."""
    (tmp_path / "here").mkdir()
    done = lingraft(
        *("doctor", "--verify", "--json", "--store", "."),
        cwd=tmp_path / "here",
        environment={"LINGRAFT_STORE": str(tmp_path / "elsewhere")},
    )
    assert "elsewhere" not in done.stdout + done.stderr
    assert str(tmp_path / "here") in done.stdout + done.stderr
