"""Text is opened and looked at before a model is downloaded or trained; folders are listed."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from lingraft import pipeline
from lingraft.corpus import CorpusSettings, first_look, look_at
from lingraft.corpus.file_mix import FileMix
from lingraft.corpus.text_files import find_files
from lingraft.errors import CorpusError
from lingraft.recipe import Given, Runtime, chosen_recipe, load_recipe
from tests.commands import lingraft
from tests.conftest import ENGLISH, HINDI, ROOT, write_lines

CASES = """
import json, sys
from pathlib import Path
from lingraft import pipeline
from lingraft.errors import LingraftError
from lingraft.recipe import Given, Runtime, chosen_recipe

runtime = Runtime(Path("runs"), device="cpu")
commands = {
    "plan": lambda recipe: pipeline.plan(recipe, runtime),
    "extend": lambda recipe: pipeline.extend(recipe, runtime, Path("extended")),
    "adapt": lambda recipe: pipeline.run(recipe, runtime, write_report=print),
}
for line in sys.stdin:
    command, text, field = json.loads(line)
    try:
        given = Given("me/tiny", "hi", [text], text_field=field)
        commands[command](chosen_recipe(None, given, ["vocabulary.size=20"]))
        print("done", file=sys.stderr)
    except LingraftError as error:
        print(error, file=sys.stderr)
"""


def faulty_texts(folder: Path) -> dict[str, str]:
    """Write texts with a fault; return the error that each must give by its path."""
    folder.mkdir()
    (folder / "fields.jsonl").write_text('{"id": 1, "body": "a b"}\n')
    (folder / "empty.txt").touch()
    (folder / "binary.txt").write_bytes(bytes(range(128, 256)) * 9)
    (folder / "wide.txt").write_bytes("नमस्ते".encode("utf-16"))
    (folder / "mixed").mkdir()
    for name in ("train.txt", "test.txt"):
        (folder / "mixed" / name).write_text("a text\n")
    return {
        "missing.jsonl": "missing.jsonl: no such file",
        "fields.jsonl": 'fields.jsonl:1: no field "text"; the fields are id, body; give --text',
        "empty.txt": "empty.txt: contains no document (0 bytes)",
        "binary.txt": "binary.txt:1: byte 0x80 at offset 0 is not UTF-8",
        "wide.txt": "wide.txt: the file is UTF-16, expected UTF-8",
        "mixed": "mixed: mixes training and held-out text",
    }


def test_an_error_in_text_comes_before_the_model(tiny_model, hub_commands, tmp_path):
    """No request for the weights is made for faulty text; with good text, they are downloaded."""
    shutil.copytree(tiny_model, tmp_path / "hub/models/me/tiny")
    data = tmp_path / "hub/datasets/me/lines/train.jsonl"
    data.parent.mkdir(parents=True)
    data.write_text('{"body": "a text"}\n' * 9)
    cases = [("extend", str(write_lines(tmp_path / "good.txt", HINDI)), None)]
    expected = ["done"]
    for name, message in faulty_texts(tmp_path / "texts").items():
        cases += [(command, str(tmp_path / "texts" / name), None) for command in ("plan", "adapt")]
        expected += [message] * 2
    cases += [("adapt", "me/lines", None), ("extend", str(tmp_path / "texts/fields.jsonl"), "id")]
    expected += ['hf:me/lines/train:row 1: no field "text"; the fields are body', 'field "id" is a']
    with hub_commands.serve(tmp_path / "hub") as hub:
        for chosen in (slice(1, None), slice(0, 1)):
            given = "\n".join(map(json.dumps, cases[chosen]))
            done = hub_commands.ask("-c", CASES, home=tmp_path / "home", cwd=tmp_path, stdin=given)
            lines = done.stderr.splitlines()
            for message in expected[chosen]:
                assert any(message in line for line in lines), done.stderr
            fetched = any("model.safetensors" in request for request in hub.requests)
            assert fetched == (chosen.start == 0)


def test_an_error_in_text_comes_before_a_base_is_trained(tmp_path):
    """The demo's base is not trained for text that is empty; nothing is in the store."""
    (tmp_path / "empty.jsonl").touch()
    recipe = load_recipe(
        ROOT / "recipes" / "demo.yaml", [f"target.corpus={tmp_path / 'empty.jsonl'}"]
    )
    runtime = Runtime(tmp_path / "runs", device="cpu")
    with pytest.raises(CorpusError, match="contains no document"):
        pipeline.run(recipe, runtime, write_report=print)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("manifest.json"))


def look(path: object, language: str = "hi") -> list[str]:
    return look_at(CorpusSettings.model_validate({"sources": [str(path)]}), language)


def write_texts(folder: Path, *names: str) -> None:
    """Write a file for each name; names that begin with en or la have English text."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(path, ENGLISH if path.name.startswith(("en", "la")) else HINDI, copies=2)


MIXES = {
    "training and held-out text": ("train-00.txt", "train-01.txt", "test-00.txt", "test-01.txt"),
    "held-out text in a folder": ("a/train/1.txt", "a/train/2.txt", "a/valid/1.txt"),
    "an unnamed kind": ("hi.txt", "hi.held-out.txt"),
    "languages by name": ("hi.1.txt", "hi.2.txt", "ta.1.txt", "ta.2.txt"),
    "languages by folder": ("hin_Deva/1.txt", "hin_Deva/2.txt", "npi_Deva/1.txt"),
    "scripts": ("one.txt", "late.txt", "last.txt"),
    "languages and held-out text": ("hi.train.txt", "hi.dev.txt", "en.train.txt", "en.dev.txt"),
}


@pytest.mark.parametrize("mix", MIXES)
def test_a_folder_or_pattern_of_several_kinds_is_refused(tmp_path, mix):
    """The error gives two patterns that can be typed; each matches text of one kind."""
    folder = tmp_path / "my texts"
    write_texts(folder, *MIXES[mix])
    for given in (folder, folder / "**"):
        with pytest.raises(CorpusError, match="mixes") as caught:
            look(given)
        message = str(caught.value)
        assert "\n" not in message
        assert ("held-out" in message) == ("held-out" in mix or mix == "an unnamed kind")
        offered = message.rpartition("give a pattern for one kind: ")[2]
        first, _, second = shlex.split(offered)
        sets = [set(find_files(pattern)) for pattern in (first, second)]
        assert not sets[0] & sets[1]
        for pattern in (first, second):
            look(pattern)


def test_a_folder_of_one_kind_is_read(tmp_path):
    """Its files are counted and named in the plan; a source of one file has no such line."""
    write_texts(tmp_path / "news", *(f"{number:02}.txt" for number in range(40)))
    (line,) = look(tmp_path / "news")
    size = sum(path.stat().st_size for path in (tmp_path / "news").iterdir()) / 1e3
    assert line.startswith(f"40 files, {size:.3g} kB from {tmp_path / 'news'} (00.txt, 01.txt")
    assert line.endswith("...), Devanagari")
    assert look(tmp_path / "news" / "00.txt") == []
    # A word such as `latest` or `contest` is not `test`.
    write_texts(tmp_path / "more", "latest.hi.txt", "contest.hi.txt", "hi.txt")
    (tmp_path / "more" / "latest.hi.txt").write_text((tmp_path / "more" / "hi.txt").read_text())
    assert len(look(tmp_path / "more")) == 1


def test_words_in_file_names_are_no_languages(tmp_path):
    """`my` and `no` are languages only next to a name that is certain, or as the whole name."""

    def languages(*names: str) -> set[str]:
        write_texts(tmp_path, *names)
        mix = FileMix.of(str(tmp_path), {tmp_path / name: "" for name in names})
        return {kind.language for kind in mix.kinds.values()}

    assert languages("my_blog.txt", "no_ads.txt") == {""}
    assert languages("de_news.txt", "it_news.txt") == {"de", "it"}
    assert languages("en/my_blog.txt", "de/my_blog.txt") == {"en", "de"}
    assert languages("en_news.txt", "de_news.txt") == languages("en.txt", "de.txt") == {"en", "de"}


def test_a_field_of_plain_text_is_refused(tmp_path):
    """A field is named for files that have fields; with .txt files alone it would do nothing."""
    write_texts(tmp_path, "a.txt", "b.txt")
    source = {"path": str(tmp_path), "text_field": "body"}
    with pytest.raises(CorpusError, match=r"\.txt files have no fields; leave out text_field"):
        look_at(CorpusSettings.model_validate({"sources": [source]}), "hi")


def test_of_many_files_some_are_opened(tmp_path, monkeypatch):
    """The first, the last and files at equal distances are opened, and all are counted."""
    monkeypatch.setattr(first_look, "LOOKED_AT_FILES", 3)
    write_texts(tmp_path, *(f"{number:02}.txt" for number in range(9)))
    (tmp_path / "03.txt").write_bytes(b"\xff")
    assert look(tmp_path)[0].startswith("9 files, ")
    (tmp_path / "04.txt").write_bytes(b"\xff")
    with pytest.raises(CorpusError, match=r"04\.txt:1: byte 0xff"):
        look(tmp_path)


def test_the_field_of_the_text_is_an_option(tiny_model, tmp_path):
    """--text-field and --base-text-field reach plan, diagnose and evaluate; .txt has no fields."""
    rows = [json.dumps({"id": "x", "body": f"{text} {n}"}) for n in range(9) for text in HINDI]
    (tmp_path / "hi.jsonl").write_text("\n".join(rows), encoding="utf-8")
    write_lines(tmp_path / "en.txt", ENGLISH, copies=3)
    texts = ["-t", "hi.jsonl", "--text-field", "body", "--base-text", "en.txt"]
    planned = lingraft("plan", "-m", tiny_model, "-l", "hi", *texts, "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    measured = lingraft("diagnose", tiny_model, *texts[:4], "-t", "en.txt", "--json", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    refused = lingraft("diagnose", tiny_model, "-t", "hi.jsonl", cwd=tmp_path)
    assert refused.returncode == 2
    assert (
        'hi.jsonl:1: no field "text"; the fields are id, body; give --text-field body (in a '
        "recipe: corpus: {path: hi.jsonl, text_field: body})"
    ) in " ".join(refused.stderr.split())
    for options in (["-t", "en.txt"], []):
        refused = lingraft("evaluate", tiny_model, *options, "--text-field", "body", cwd=tmp_path)
        assert "--text-field body: no file of --text has fields" in refused.stderr


def test_fields_of_target_and_base_text_are_settings_of_their_sources():
    """The options give the recipe that has text_field in each source that has fields."""
    texts = (["a.jsonl", "b.txt", "me/lines"], "en", ["c.csv"], "body", "content")
    recipe = chosen_recipe(None, Given("m", "hi", *texts))
    assert [source.text_field for source in recipe.target.sources] == ["body", "text", "body"]
    assert [source.text_field for source in recipe.replay.sources] == ["content"]


def test_files_of_one_writing_system_are_one_kind(tmp_path):
    """Japanese files of kana, of Han and of both are one text; a Hindi file among them is not."""
    texts = {"a": "ひらがなだけのぶんしょうです" * 9, "b": "東京都首都大学" * 9}
    texts["c"] = "東京の大学へいきました" * 9
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    mix = FileMix.of(str(tmp_path), {tmp_path / f"{name}.txt": texts[name] for name in texts})
    assert {kind.language for kind in mix.kinds.values()} == {"CJK"}
    mix.check("ja")
