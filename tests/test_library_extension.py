"""`lingraft.extend_tokenizer` and `lingraft.learn_tokens` on tokenizers and texts in memory."""

from __future__ import annotations

import copy
import gc
import json
import math
import os
import pickle
import shutil
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer

import lingraft
from lingraft.cli import app
from lingraft.library.given_tokenizer import _unchanged_files
from lingraft.progress import discard_line
from tests.conftest import ENGLISH, HINDI

TEXTS = [f"{sentence} {number}" for sentence in HINDI for number in range(40)]
ENGLISH_TEXTS = [f"{sentence} {number}" for sentence in ENGLISH for number in range(40)]
TEMPLATE = "{% for m in messages %}<s>{{ m.content }}{% endfor %}"


def content(folder, name="tokenizer.json"):
    return json.loads((Path(folder) / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def base(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="module")
def extension(base):
    return lingraft.extend_tokenizer(
        base, iter(TEXTS), size=30, language="hi", base_texts={"en": ENGLISH_TEXTS}
    )


def test_the_result_is_that_of_the_command(extension, base, tiny_model, tmp_path):
    """`lingraft extend` writes the same tokenizer.json and splice.json for the same text.

    So does `save`, and `save_pretrained` of the extended tokenizer writes equal content.
    """
    text, replay = tmp_path / "hindi.jsonl", tmp_path / "english.jsonl"
    for file, lines in ((text, TEXTS), (replay, ENGLISH_TEXTS)):
        file.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    command = ["extend", "--model", tiny_model, "--language", "hi", "--text", text, "--size", 30]
    command += ["--base-language", "en", "--base-text", replay, "--store", tmp_path / "store"]
    app(list(map(str, [*command, "--output", tmp_path / "command"])), standalone_mode=False)
    extension.save(tmp_path / "saved")
    extension.tokenizer.save_pretrained(tmp_path / "pretrained")
    expected = content(tmp_path / "command")
    assert content(tmp_path / "saved") == content(tmp_path / "pretrained") == expected
    splice = content(tmp_path / "command" / "lingraft", "splice.json")
    assert content(tmp_path / "saved" / "lingraft", "splice.json") == splice
    assert extension.splice.to_json() == splice
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.chat_template == extension.tokenizer.chat_template == TEMPLATE
    assert again.special_tokens_map == base.special_tokens_map


def test_a_folder_with_another_tokenizer_gets_the_extended_one(extension, tiny_model, tmp_path):
    """Files of the tokenizer that was there would give tokens, roles or a chat template of theirs.

    Other files of the folder stay.
    """
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "added_tokens.json").write_text('{"<extra>": 320}')
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<extra>"}')
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool.jinja").write_text("old")
    (folder / "merges.txt").write_text("old")
    extension.save(folder)
    again = AutoTokenizer.from_pretrained(folder)
    assert again.get_vocab() == extension.tokenizer.get_vocab()
    assert again.special_tokens_map == extension.tokenizer.special_tokens_map
    assert again.chat_template == extension.tokenizer.chat_template
    assert not (folder / "merges.txt").exists()
    assert (folder / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["file", "file/folder", "a\0b", "x" * 300])
def test_an_extension_is_saved_to_a_folder_only(extension, tmp_path, name):
    """A path that cannot be a folder is an error of lingraft."""
    (tmp_path / "file").touch()
    with pytest.raises(lingraft.StoreError):
        extension.save(tmp_path / name)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
def test_a_copy_of_an_extension_outlives_it(base, tmp_path, copied):
    """A copy, also one from another process, is saved and gives rows when the original is gone."""
    extension = lingraft.extend_tokenizer(base, TEXTS, size=10, log=discard_line)
    expected = extension.splice.target.family.data
    again, folder = copied(extension), extension.files.path
    del extension
    gc.collect()
    assert not folder.exists()
    again.save(tmp_path)
    assert content(tmp_path)["model"] == expected["model"]
    for tokenizer in (again.splice.source, again.splice.target):
        assert tokenizer.folder.is_dir()
        assert tokenizer.folder.is_relative_to(again.files.path)


def test_an_extension_whose_files_are_gone_says_so(base, tmp_path):
    """If its temporary files were removed, `save` is an error, and the folder stays as it was."""
    extension = lingraft.extend_tokenizer(base, TEXTS, size=10, log=discard_line)
    extension.save(tmp_path)
    before = content(tmp_path)
    shutil.rmtree(extension.files.path)
    with pytest.raises(lingraft.StoreError, match="was removed, as happens to old temporary files"):
        extension.save(tmp_path)
    assert content(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX systems fork")
def test_a_fork_leaves_the_files_of_its_parent(extension):
    """A forked process that ends, as a worker of a server does, removes nothing."""
    process = os.fork()
    if not process:
        extension.files._removal()
        os._exit(0)
    os.waitpid(process, 0)
    assert extension.files.path.is_dir()


def test_a_file_in_the_home_folder_is_found(base, tmp_path, monkeypatch):
    """`~` in a path of text, and of the folder to save to, is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "hindi.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    packed = lingraft.pack(base, Path("~/hindi.jsonl"), length=64, log=discard_line)
    assert packed.text.documents == len(TEXTS)
    extension = lingraft.extend_tokenizer(base, TEXTS, size=10, log=discard_line)
    extension.save("~/saved")
    assert (tmp_path / "saved" / "tokenizer.json").is_file()


def test_tokens_that_only_the_class_adds_are_kept(assets, tmp_path):
    """T5's class adds 100 special tokens, which no file of the folder names."""
    folder = tmp_path / "t5"
    folder.mkdir()
    shutil.copy(assets / "tokenizers" / "t5" / "spiece.model", folder)
    config = {"model_type": "t5", "vocab_size": 32128}
    (folder / "config.json").write_text(json.dumps(config))
    source = AutoTokenizer.from_pretrained(folder)
    given = lingraft.extend_tokenizer(source, TEXTS, size=30, language="hi")
    assert len(given.tokenizer) == len(source) + 30
    given.save(tmp_path / "saved")
    for tokenizer in (given.tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        assert set(tokenizer.all_special_ids) == set(source.all_special_ids)
        text = "a <extra_id_0> b"
        ids = source(text).input_ids
        assert tokenizer(text).input_ids == ids
        for skips in (False, True):
            decoded = tokenizer.decode(ids, skip_special_tokens=skips)
            assert decoded == source.decode(ids, skip_special_tokens=skips)


def test_an_extension_names_its_tokens_and_its_claims(extension, base):
    """Each new token has its id, its text and its source ids, and every fatal claim holds."""
    assert [token.id for token in extension.tokens] == list(range(320, 350))
    for token in extension.tokens:
        text = token.surface.decode(errors="replace")
        assert extension.tokenizer.decode([token.id]) == base.decode(token.pieces) == text
    assert extension.certificate.holds
    names = {claim.name for claim in extension.certificate.claims}
    assert {"source tokens where they were", "base-language documents identical"} <= names
    assert len(base) == 320, "the given tokenizer does not change"
    assert isinstance(extension.splice, lingraft.Splice)


def test_learned_tokens_are_those_of_the_extension(extension, base):
    """`learn_tokens` gives the same tokens, with the merges that the extended tokenizer has."""
    learned = lingraft.learn_tokens(
        base, TEXTS, size=30, language="hi", base_texts={"en": ENGLISH_TEXTS}
    )
    assert learned.tokens == extension.tokens
    merges = json.loads(extension.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert [list(pair) for pair in learned.merges] == merges[-len(learned.merges) :]
    assert learned.curve["tokens"][0] == learned.tokens_before
    assert learned.curve["tokens"][-1] == learned.tokens_before - sum(learned.saved)


def test_files_are_read_where_the_object_still_equals_them(base, tiny_model):
    """A tokenizer that was changed after loading is saved; an unchanged one is read from files."""
    unchanged = AutoTokenizer.from_pretrained(tiny_model)
    unchanged(["a", "bc"], padding="longest") if unchanged.pad_token else None
    assert _unchanged_files(unchanged) == tiny_model / "tokenizer.json"
    assert _unchanged_files(base) is None
    unchanged.add_tokens(["<new>"])
    assert _unchanged_files(unchanged) is None
    extension = lingraft.extend_tokenizer(unchanged, TEXTS, size=3)
    assert extension.tokenizer.convert_tokens_to_ids("<new>") == 320
    assert [token.id for token in extension.tokens] == [321, 322, 323]


def test_settings_of_the_object_are_kept(tiny_model):
    """What was set on a tokenizer in memory is in the result; it does not save all of it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    changes = {"padding_side": "left", "truncation_side": "left", "model_max_length": 77}
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    extended = lingraft.extend_tokenizer(tokenizer, TEXTS, size=5, language="hi").tokenizer
    assert {name: getattr(extended, name) for name in changes} == changes


def test_a_file_is_text_wherever_documents_are(base, hindi_file):
    """`diagnose` and `pack` read a path as `extend_tokenizer` does; one without text is named."""
    documents = Path(hindi_file).read_text(encoding="utf-8").splitlines()
    given = lingraft.diagnose(base, {"hi": Path(hindi_file)})
    assert str(given) == str(lingraft.diagnose(base, {"hi": documents}))
    packed = list(map(str, lingraft.pack(base, Path(hindi_file), length=32)))
    assert packed == list(map(str, lingraft.pack(base, documents, length=32)))
    with pytest.raises(lingraft.LingraftError, match=r"texts: hi: /no/file.txt does not exist"):
        lingraft.diagnose(base, {"hi": Path("/no/file.txt")})


def test_texts_of_several_languages_are_a_mapping(base):
    """Each language of a mapping is a corpus of its own; a missing value is an empty document."""
    texts = {"hi": [None, math.nan, pd.NA, *TEXTS], "en": ENGLISH_TEXTS}
    tokens = lingraft.learn_tokens(base, texts, size=30).tokens
    assert any(token.text.isascii() for token in tokens)
    assert not all(token.text.isascii() for token in tokens)


def test_a_file_is_read_as_the_command_reads_it(base, hindi_file):
    """A path in place of texts is a source of text."""
    assert len(lingraft.learn_tokens(tokenizer=base, texts=hindi_file, size=5).tokens) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "one string"}, r"texts: one string, but an iterable .* give \[text\]"),
        ({"texts": []}, "texts: contains no document; .* generator can be read only once"),
        ({"texts": [{"text": "a"}]}, r"item 0 is a record \(dict\) .*dataset\['text'\]"),
        ({"texts": {"hi": ["क", "ख"], "tr": []}}, "texts: tr: contains no document"),
        ({"texts": [7]}, "texts: item 0 is of type int; expected str"),
        ({"texts": {}}, "texts: give the documents by language"),
        ({"texts": {"hi": TEXTS}, "language": "hi"}, "leave out `language`"),
        ({"language": "hindi!"}, "language 'hindi!'"),
        ({"size": -1}, "size"),
        ({"method": "contined"}, "did you mean 'continued'"),
        ({"size": {"rule": "serving"}}, "rule `serving` weighs the cost of a model's head"),
        ({"protect_replay": True}, "there is no base-language text to protect"),
        ({"tokenizer": object()}, "object is no tokenizer of transformers; give AutoTokenizer"),
        ({"tokenizer": Path(__file__).parent}, "no tokenizer here"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_in_one_line(base, arguments, message):
    """Errors are those of lingraft and name the argument."""
    with pytest.raises(lingraft.LingraftError, match=message) as caught:
        lingraft.learn_tokens(**{"tokenizer": base, "texts": TEXTS, "size": 5, **arguments})
    assert "\n" not in str(caught.value)
    assert "/tmp/lingraft" not in str(caught.value)


def test_text_settings_clean_and_accept_texts(base):
    """A refusal and a warning name the argument that a caller in Python gives."""
    with pytest.raises(lingraft.CorpusError) as refused:
        lingraft.learn_tokens(base, TEXTS, size=5, language="te")
    accepted = {"allow": ["wrong_script"]}
    assert str(refused.value).endswith(f"give text_settings={accepted!r}")
    learned = lingraft.learn_tokens(base, TEXTS, size=5, language="te", text_settings=accepted)
    hyphens = [line.replace(" ", "\u00ad ", 1) for line in TEXTS]
    lines: list[str] = []
    lingraft.learn_tokens(base, hyphens, size=5, language="hi", log=lines.append)
    cleaning = {"cleaning": {"strip": ["soft_hyphens"]}}
    assert any(f"give text_settings={cleaning!r}" in line for line in lines)
    given = {"language": "hi", "text_settings": cleaning}
    cleaned = lingraft.learn_tokens(base, hyphens, size=5, **given)
    assert cleaned.tokens == learned.tokens
    with pytest.raises(lingraft.RecipeError, match=r"text_settings: .* leave out sources"):
        lingraft.learn_tokens(base, TEXTS, size=5, text_settings={"sources": "x"})
