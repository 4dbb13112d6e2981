"""Pushing to a hub: the model arrives with its card, and the token appears nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.errors import ModelError, RecipeError
from lingraft.export.hub_upload import find_upload_folder, model_folder, upload

TOKEN = "hf_onlyforthistest0123456789"


@pytest.fixture
def run(tmp_path) -> Path:
    """Something that looks like a finished run."""
    folder = tmp_path / "runs" / "small"
    (folder / "model").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model" / "model.safetensors").write_bytes(bytes(range(256)) * 20)
    (folder / "model" / "README.md").write_text("---\nlanguage: [hi]\n---\n# small\n")
    return folder


@pytest.fixture
def push(hub_commands, run, tmp_path):
    """Return what pushes the run or another folder to me/small, with or without a token."""

    def done(*options: str, folder: Path = run, token: str = TOKEN):
        command = ["-m", "lingraft", "push", folder, "--to", "me/small", *options]
        variables = {"HF_TOKEN": token} if token else {}
        return hub_commands.ask(*command, home=tmp_path / "home", cwd=tmp_path, variables=variables)

    return done


def test_a_model_arrives_with_its_card(run, push, hub_commands, tmp_path):
    """Every file of model/ is uploaded, nothing else of the run, and the URL is printed."""
    with hub_commands.serve(tmp_path / "hub", token=TOKEN) as hub:
        listed = push("--dry-run", "--json")
        assert not hub.requests
        done = push("--json")
        assert done.returncode == 0, done.stderr
        there = {name: path.read_bytes() for name, path in hub.files("models", "me/small").items()}
    model = run / "model"
    assert there == {path.name: path.read_bytes() for path in model.iterdir()}
    assert json.loads(done.stdout)["address"].startswith(hub.url)
    assert json.loads(listed.stdout)["files"] == json.loads(done.stdout)["files"]
    for text in (listed.stdout, listed.stderr, done.stdout, done.stderr):
        assert TOKEN not in text


def test_a_token_that_is_refused_is_not_repeated(push, hub_commands, tmp_path):
    """The hub's answer may hold the token; the error is one line without it, exit code 2."""
    with hub_commands.serve(tmp_path / "hub", token="another"):
        done = push()
    assert (done.returncode, done.stdout) == (2, "")
    assert "me/small: the Hub responded with status 401" in done.stderr
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr


def test_without_a_token_nothing_is_asked(push, hub_commands, tmp_path):
    """Without a token the hub is not even asked; a hub that is gone is one line, too."""
    with hub_commands.serve(tmp_path / "hub") as hub:
        done = push(token="")
        assert not hub.requests
    assert done.returncode == 2
    assert "no token of the hub" in done.stderr
    gone = push()
    assert gone.returncode == 2
    assert gone.stderr.startswith("error: me/small: ")
    assert TOKEN not in gone.stderr


@pytest.mark.parametrize("content", ["{", "[1]", "{}", "null"])
def test_a_damaged_adapter_is_an_error_with_its_file(content, tmp_path):
    """What PEFT could not read is not uploaded; the error is one line with the file."""
    (tmp_path / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"adapter_config\.json: not a configuration of PEFT"):
        find_upload_folder(tmp_path, "me/small")


def test_an_adapter_arrives_where_its_base_is_on_a_hub(push, hub_commands, tmp_path):
    """An adapter is uploaded with card and tokenizer; one of a local base is refused."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "README.md").write_text("# small\n")
    (folder / "adapter_model.safetensors").write_bytes(b"rows")
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": "me/base"}))
    with hub_commands.serve(tmp_path / "hub", token=TOKEN) as hub:
        done = push(folder=folder)
        assert done.returncode == 0, done.stderr
        assert {*hub.files("models", "me/small")} == {path.name for path in folder.iterdir()}
    for base in ("/home/me/base", "models/mine/base", "a model trained here on en text"):
        config.write_text(json.dumps({"base_model_name_or_path": base}))
        with pytest.raises(ModelError, match="not owner/name of a hub"):
            upload(folder, "me/small")


def test_nothing_goes_without_a_card(run, tmp_path):
    """Without a card, model folder or valid name, nothing is sent to the hub."""
    for name in ("small", "me/small/one"):
        with pytest.raises(RecipeError, match="owner/name"):
            upload(run, name)
        # As --dry-run asks.
        with pytest.raises(RecipeError, match="owner/name"):
            find_upload_folder(run, name)
    (run / "model" / "README.md").unlink()
    with pytest.raises(ModelError, match="no model card"):
        upload(run, "me/small")
    with pytest.raises(ModelError, match="neither a finished run nor a model folder"):
        model_folder(tmp_path)
    assert model_folder(run) == model_folder(run / "model") == run / "model"


def test_a_token_stands_in_no_file_of_a_run(tiny_model, hindi_file, hub_commands, tmp_path):
    """With a token in the environment, no file of a run and of its store holds it."""
    command = ["adapt", "--model", tiny_model, "--language", "hi", "--text", hindi_file]
    settings = (
        "vocabulary.size=5",
        "training={budget: 1 steps, batch_tokens: 64}",
        "evaluation={heldout_bytes: 300, generation: null}",
    )
    options = [part for setting in settings for part in ("-o", setting)]
    done = hub_commands.ask(
        *("-m", "lingraft", *command, "--device", "cpu", *options),
        home=tmp_path / "home",
        cwd=tmp_path,
        variables={"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN},
    )
    assert done.returncode == 0, done.stderr
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert any(path.name == "README.md" for path in files)
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert TOKEN not in done.stdout + done.stderr
