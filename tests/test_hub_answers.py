"""Unexpected responses of a hub give one line with advice, and never show the token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command_server import HubCommands
from tests.hub_server import HubServer

TOKEN = "hf_a_token_that_nobody_may_see"
ASK = """
import json, sys, time
time.sleep = lambda _seconds: None  # the libraries wait between their attempts
from pathlib import Path
from lingraft.bases import BASES, BuildContext
from lingraft.corpus import CorpusSettings, build_corpus, identity_of
from lingraft.errors import LingraftError
from lingraft.store import Draft

def model(draft):
    base = BASES.parse({"hub": {"id": "me/model"}})
    base.identity()
    base.materialise(BuildContext(draft, draft.folder))

def texts(draft):
    settings = CorpusSettings.model_validate({"sources": "me/texts"})
    identity_of(settings, "en")
    build_corpus(settings, "en", draft)

for name, ask in (("model", model), ("texts", texts)):
    folder = Path(sys.argv[1]) / name
    folder.mkdir(parents=True)
    try:
        ask(Draft(folder))
        print(json.dumps("whole"))
    except LingraftError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture
def served(tiny_model: Path, tmp_path: Path) -> Path:
    """Return the folder of a hub with a model and a data set."""
    shutil.copytree(tiny_model, tmp_path / "hub/models/me/model")
    texts = tmp_path / "hub/datasets/me/texts"
    texts.mkdir(parents=True)
    (texts / "train.jsonl").write_text(
        "".join(json.dumps({"text": f"story {n}"}) + "\n" for n in range(50))
    )
    return tmp_path / "hub"


def asked(hub_commands: HubCommands, folder: Path) -> list[str]:
    """Return the messages for the model and the data set; no output has the token."""
    command = ["-c", ASK, folder / "drafts"]
    shown = {"HF_TOKEN": TOKEN}
    done = hub_commands.ask(*command, home=folder / "home", cwd=folder, variables=shown)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<html><title>Sign in to the network</title>"), "unexpected response"),
        ((200, b"[1, 2]"), "unexpected response"),
        ((500, b"oops"), "500"),
        ((403, b"{}"), "/me/"),
    ],
    ids=["a page", "other JSON", "an error of its own", "forbidden"],
)
def test_what_is_no_answer_is_told(
    answer: tuple[int, bytes], said: str, served: Path, hub_commands: HubCommands, tmp_path: Path
) -> None:
    """A sign-in page, other JSON and hub errors give one line with the URL, and no file."""
    with hub_commands.serve(served, always=answer) as hub:
        for line in asked(hub_commands, tmp_path):
            assert said in line
            assert "\n" not in line
            assert hub.url in line or str(answer[0]) in line
    assert not [path for path in (tmp_path / "drafts").rglob("*") if path.is_file()]


def test_a_gated_page_is_named(served: Path, hub_commands: HubCommands, tmp_path: Path) -> None:
    """The message names the page on which the conditions stand."""
    with hub_commands.serve(served, gated={"me/model", "me/texts"}) as hub:
        model, texts = asked(hub_commands, tmp_path)
        assert f"{hub.url}/me/model, then `hf auth login`" in model
        assert f"{hub.url}/datasets/me/texts" in texts


def test_a_transfer_that_is_cut_is_told(
    served: Path, hub_commands: HubCommands, tmp_path: Path
) -> None:
    """A file that ends early is no file; what to do is said."""
    cut = {"me/model/model.safetensors": 1000, "me/texts/train.jsonl": 100}
    with hub_commands.serve(served, cut=cut) as hub:
        model, texts = asked(hub_commands, tmp_path)
        assert "me/model: the download was interrupted" in model
        assert f"the connection to {hub.url} failed" in texts or "cannot be read" in texts


def test_a_token_does_not_follow_elsewhere(
    served: Path, hub_commands: HubCommands, tmp_path: Path
) -> None:
    """Files that another host holds are fetched from there; that host is not shown the token."""
    with HubServer(served) as other, hub_commands.serve(served, elsewhere=other.url) as hub:
        answers: list[Any] = asked(hub_commands, tmp_path)
        assert answers == ["whole", "whole"]
        assert TOKEN in " ".join(hub.tokens)
        assert any("/resolve/" in request for request in other.requests)
        assert set(other.tokens) == {""}
