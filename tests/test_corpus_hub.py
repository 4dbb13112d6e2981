"""Hub data sets, by the real hub libraries against a server on the loopback interface."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_server import HubServer

READ = """
import json, sys, time
time.sleep = lambda _seconds: None  # the libraries wait between their attempts
from pathlib import Path
from lingraft.corpus import Corpus, CorpusSettings, build_corpus, identity_of
from lingraft.errors import LingraftError
from lingraft.store import Draft
import tempfile

for line in sys.stdin:
    with tempfile.TemporaryDirectory() as folder:
        draft = Draft(Path(folder))
        try:
            settings = CorpusSettings.model_validate(json.loads(line))
            identity = identity_of(settings, "hi")
            build_corpus(settings, "hi", draft)
            corpus = Corpus.open(draft.folder)
            texts = [text for split in ("train", "heldout") for text in corpus.documents(split)]
            print(json.dumps({"texts": sorted(texts), "identity": identity, "notes": draft.notes}))
        except LingraftError as error:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""
ROWS = {
    "lines": [f"नमस्ते दुनिया {n}" for n in range(300)],
    "table": [f"राम घर गया {n} " * 20 for n in range(2000)],
}


def chats_with_pictures() -> pa.Table:
    """Return conversations with a column of images, as `datasets` writes them; none is valid."""
    turns = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": "हाँ"}]
        for text in ROWS["lines"]
    ]
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pictures = pa.array([{"bytes": b"no image"}] * len(turns), picture)
    message = {name: {"dtype": "string", "_type": "Value"} for name in ("role", "content")}
    features = {
        "image": {"_type": "Image"},
        "messages": {"feature": message, "_type": "List"},
    }
    table = pa.table({"image": pictures, "messages": turns})
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


@pytest.fixture
def hub(hub_commands, tmp_path):
    lines, table = tmp_path / "hub/datasets/me/lines/data", tmp_path / "hub/datasets/me/table/data"
    for folder in (lines, table):
        folder.mkdir(parents=True)
    for name, texts in (("train", ROWS["lines"]), ("test", ["परीक्षा"] * 3)):
        rows = "".join(json.dumps({"text": text, "id": "x"}) + "\n" for text in texts)
        (lines / f"{name}-00000.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    pq.write_table(
        pa.table({"id": range(2000), "body": ROWS["table"]}),
        table / "train-00000.parquet",
        row_group_size=100,
    )
    pictures = tmp_path / "hub/datasets/me/pictures/data"
    pictures.mkdir(parents=True)
    pq.write_table(chats_with_pictures(), pictures / "train-00000.parquet")
    for name in ("secret", "broken"):
        folder = tmp_path / "hub/datasets/me" / name / "data"
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text('{"text": "a"}\n{"text": ', encoding="utf-8")
    with hub_commands.serve(tmp_path / "hub", gated={"me/secret"}) as server:
        yield server


@pytest.fixture
def ask(hub_commands, tmp_path):
    """Return what builds corpora in a process that takes the server for the hub."""

    def answers(*recipes: dict) -> list[dict]:
        given = "\n".join(map(json.dumps, recipes))
        return answers_of(
            hub_commands.ask("-c", READ, home=tmp_path / "home", cwd=tmp_path, stdin=given)
        )

    return answers


def ask_alone(hub: HubServer, tmp_path: Path, recipe: dict, **environment: str) -> dict:
    """Do so in a process that imports the hub's libraries in another environment."""
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps(recipe),
        text=True,
        env=hub.environment(tmp_path / "home") | environment,
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    [answer] = answers_of(done)
    return answer


def answers_of(done: subprocess.CompletedProcess[str]) -> list[dict]:
    """Return what each corpus came to: one line for each."""
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("\n" not in answer.get("message", "") for answer in answers)
    return answers


def test_columns_of_a_data_set_filter_and_weigh(hub, ask):
    """The columns of a condition and of a weight are read next to the text."""
    source = {"hub": "me/table", "text_field": "body", "where": "id < 20", "weight": "id"}
    read, wrong = ask({"sources": source}, {"sources": {**source, "where": "score > 1"}})
    assert read["notes"]["dropped"]["by where"]["documents"] == 1980
    assert read["notes"]["dropped"]["of weight 0"]["documents"] == 1
    assert set(read["texts"]) == set(ROWS["table"][1:20])
    assert len(read["texts"]) > 50
    assert 'row 1: no column "score"; the columns are id, body;' in wrong["message"]


def test_data_sets_are_read_whatever_their_format(hub, ask):
    """JSON lines and parquet give their texts, streamed or stored, with the commit as identity."""
    lines, stored, table, other = ask(
        {"sources": "me/lines"},
        {"sources": {"hub": "me/lines", "streaming": False}},
        {"sources": {"hub": "me/table", "text_field": "body", "revision": "main"}},
        {"sources": {"hub": "me/lines", "split": "train+test", "limit": {"documents": 302}}},
    )
    assert lines["texts"] == stored["texts"] == sorted(ROWS["lines"])
    assert table["texts"] == sorted(ROWS["table"])
    assert len(other["texts"]) == 301
    assert other["notes"]["dropped"]["duplicate"]["documents"] == 1
    assert lines["identity"] == stored["identity"]
    assert lines["identity"]["sources"][0]["revision"] == hub.commit("datasets", "me/lines")
    assert lines["notes"]["sources"][0]["source"] == "hf:me/lines/train"


@pytest.mark.usefixtures("hub")
def test_of_a_chat_only_the_columns_of_the_conversation_are_read(ask):
    """An image next to the messages is not decoded, and one that is broken is no error."""
    chat = {"hub": "me/pictures", "format": "chat"}
    read, stored = ask({"sources": chat}, {"sources": {**chat, "streaming": False}})
    assert read["texts"] == stored["texts"] == sorted(f"{text}\n\nहाँ" for text in ROWS["lines"])


@pytest.mark.usefixtures("hub")
def test_a_stream_is_read_no_further_than_the_limit_needs(ask):
    """The limit of the corpus ends the reading of a streamed data set, and the notes say so."""
    [whole, part] = ask(
        {"sources": {"hub": "me/table", "text_field": "body"}},
        {"sources": {"hub": "me/table", "text_field": "body"}, "limit": {"documents": 40}},
    )
    [source] = part["notes"]["sources"]
    assert part["notes"]["train"]["documents"] == 40
    assert 40 <= source["read"]["documents"] < 60
    assert source["stopped_early"]
    assert not whole["notes"]["sources"][0]["stopped_early"]


def test_refusals_say_what_to_do(hub, ask):
    """An unknown name, revision, split, configuration or field, and gated data, are named."""
    answers = ask(
        *(
            {"sources": source}
            for source in (
                "me/none",
                {"hub": "me/lines", "revision": "v9"},
                {"hub": "me/lines", "split": "dev"},
                {"hub": "me/lines", "config": "hi"},
                "me/secret",
                {"hub": "me/lines", "text_field": "content"},
                "me/broken",
            )
        ),
    )
    expected = [
        (
            "hf:me/none/train: there is no such dataset, or it is private; "
            f"check {hub.url}/datasets/me/none"
        ),
        (
            "there is no revision 'v9'; "
            f"see the branches and tags on {hub.url}/datasets/me/lines/tree/main"
        ),
        (
            "hf:me/lines/dev: the data set cannot be read: "
            "Bad split: dev. Available splits: ['train', 'test']"
        ),
        "hf:me/lines: there is no configuration 'hi'; it has default",
        (
            f"access is restricted; accept the conditions on {hub.url}/datasets/me/secret, "
            "then `hf auth login`"
        ),
        (
            'hf:me/lines/train:row 1: no field "content"; the fields are text, id; give '
            "--text-field text (in a recipe: corpus: {hub: me/lines, text_field: text})"
        ),
        "hf:me/broken/train: the data set cannot be read: ",
    ]
    for answer, message in zip(answers, expected, strict=True):
        assert message in answer["message"]
    assert [answer["error"] for answer in answers] == ["HubError"] * 5 + ["CorpusError", "HubError"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_connection_that_breaks_is_told(hub, ask, streaming):
    """A transfer that is cut gives no corpus, and the message names the data set and the server."""
    hub.cut["me/table/data/train-00000.parquet"] = 9000
    [answer] = ask(
        {"sources": {"hub": "me/table", "text_field": "body", "streaming": streaming}},
    )
    assert answer["error"] == "HubError"
    assert re.search(
        rf"hf:me/table/train: the connection to {hub.url} failed after \d+ documents",
        answer["message"],
    )


def test_no_hub_at_all_is_told(hub, tmp_path):
    """A server that does not answer, and a setting that forbids asking."""
    silent = ask_alone(hub, tmp_path, {"sources": "me/lines"}, HF_ENDPOINT="http://127.0.0.1:9")
    assert "the connection to http://127.0.0.1:9 failed" in silent["message"]
    assert silent["message"].endswith("run again, or give local text (--text FILE)")
    offline = ask_alone(hub, tmp_path, {"sources": "me/lines"}, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in offline["message"]
    assert offline["message"].endswith("unset it, or give local text (--text FILE)")


@pytest.mark.usefixtures("hub")
def test_a_local_folder_never_stands_in_for_the_hub(ask, tmp_path):
    """`hub: owner/name` is read from the hub, also if there is a folder of that name."""
    (tmp_path / "me/lines").mkdir(parents=True)
    (tmp_path / "me/lines/train.jsonl").write_text(
        '{"text": "not from the hub"}\n' * 3, encoding="utf-8"
    )
    [answer] = ask({"sources": "hf:me/lines"})
    assert answer["texts"] == sorted(ROWS["lines"])


def test_the_server_serves_models_too(hub, hub_commands, tmp_path):
    """A model repository is listed and fetched whole by the hub's own library."""
    folder = tmp_path / "hub/models/me/tiny"
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "deep/weights.bin").write_bytes(bytes(range(256)) * 500)
    code = "from huggingface_hub import snapshot_download\nprint(snapshot_download('me/tiny'))"
    done = hub_commands.ask("-c", code, home=tmp_path / "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    fetched = Path(done.stdout.strip())
    assert fetched.name == hub.commit("models", "me/tiny")
    assert (fetched / "deep/weights.bin").read_bytes() == bytes(range(256)) * 500
