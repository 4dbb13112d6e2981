"""The grammar of commands: how each of them takes a model, a recipe, and text in a language."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lingraft.cli import app
from lingraft.cli.named_models import models_of, recipe_or_model, run_of
from lingraft.cli.recipe_options import given_texts
from lingraft.errors import RecipeError

RECIPES = ("adapt", "plan", "extend", "probe")
MODELS = ("diagnose", "evaluate", "advise")
RUNS = ("serve", "export", "push", "doctor")


@pytest.mark.parametrize("command", [*RECIPES, *MODELS, *RUNS])
def test_every_command_takes_its_model_as_argument_or_option(command):
    """The model is an argument or --model, -m in all commands that need one."""
    result = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert "--model" in result.output
    assert " -m " in result.output
    assert any(name in result.output for name in ("MODEL", "RUN"))


@pytest.mark.parametrize("command", typer.main.get_command(app).commands)
def test_help_has_no_words_in_square_brackets(command):
    """Rich takes them for markup: `[default: all text]` would not be printed."""
    for option in typer.main.get_command(app).commands[command].params:
        words = getattr(option, "help", None) or ""
        assert not re.search(r"\[(?!/?bold\])[a-z]", words), words


@pytest.mark.parametrize("given", [["training.budget=4 MB"], ["--training.budget", "4 MB"]])
def test_a_setting_without_its_option_gets_a_hint(given):
    """Settings are given with -o; other wrong arguments get no hint."""
    hint = "settings are given with -o: -o training.budget=VALUE"
    commands = (["plan", "r.yaml", *given], ["plan", "r.yaml", "s.yaml"], ["version", *given])
    for command, hinted in zip(commands, (True, False, False), strict=True):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2
        assert (hint in result.output) == hinted


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["study"], "error: missing argument 'STUDY'; see `lingraft study --help`"),
        (
            ["plan", "r.yaml", "--zzzz"],
            "error: no such option: --zzzz; see `lingraft plan --help`",
        ),
        (["serv"], "error: no such command 'serv'. Did you mean 'serve'? See `lingraft --help`"),
    ],
)
def test_a_wrong_command_line_is_one_line(given, line):
    """It says what is wrong and which help to read; nothing is on standard output."""
    result = CliRunner().invoke(app, given, prog_name="lingraft")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{line}\n"


def test_an_argument_that_ends_in_yaml_is_a_recipe():
    """Any other argument is a model; two different models are refused."""
    assert recipe_or_model("a/r.yaml", "m") == (Path("a/r.yaml"), "m")
    assert recipe_or_model("r.yml", None) == (Path("r.yml"), None)
    assert recipe_or_model("owner/name", None) == (None, "owner/name")
    assert recipe_or_model(None, "m") == (None, "m")
    assert recipe_or_model("m", "m") == (None, "m")
    with pytest.raises(RecipeError, match="two models are named, a and --model b"):
        recipe_or_model("a", "b")


def test_models_and_runs_without_a_name_are_asked_for():
    """Without an argument and without --model, the command says what to give."""
    assert models_of(["a"], ["b"]) == ["a", "b"]
    assert run_of(None, Path("runs/x")) == Path("runs/x")
    for missing in (lambda: models_of(None, None), lambda: run_of(None, None)):
        with pytest.raises(RecipeError, match="no model is named; give"):
            missing()
    with pytest.raises(RecipeError, match="two models are named"):
        run_of(Path("a"), Path("b"))


def test_text_names_its_language_in_both_ways():
    """`--text hi=FILE` is `--language hi --text FILE`; two languages are refused."""
    given = given_texts("m", None, ["hi=a.txt", "b.txt"], None, ["en=c.txt"])
    assert given == given_texts("m", "hi", ["a.txt", "b.txt"], "en", ["c.txt"])
    assert given_texts("m", None, ["ten.jsonl"], None, None).language is None
    with pytest.raises(
        RecipeError, match="--text and --language: 2 languages, hi and ta; name one"
    ):
        given_texts("m", "ta", ["hi=a.txt"], None, None)


def test_the_version_is_an_option_and_a_command():
    """`lingraft --version` prints one line and needs no command."""
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output.count("\n")) == (0, 1)
    assert result.output.startswith("lingraft 0.")


@pytest.mark.parametrize("value", ["", ",", " , "])
def test_an_option_for_tasks_without_a_name_is_refused(value):
    """`--tasks ,` is a mistake, and not an evaluation without tasks."""
    result = CliRunner().invoke(app, ["evaluate", "m", "--text", "en=a.txt", "--tasks", value])
    assert isinstance(result.exception, RecipeError)
    assert "no task is named" in str(result.exception)
