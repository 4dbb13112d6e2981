"""Corpora of many files: listed once, read as they were listed, and each fault names its file."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lingraft.corpus import (
    Corpus,
    CorpusSettings,
    build_corpus,
    identity,
    identity_of,
    list_files,
    unread_identity_of,
)
from lingraft.corpus.readers import read_source
from lingraft.errors import CorpusError
from lingraft.pipeline import plan
from lingraft.recipe import Runtime, load_recipe
from lingraft.store import Draft
from lingraft.store.digests import file_digest

SHARDS = 30
BASE = "{pretrain: {language: en, corpus: {sources: miniature}}}"


def text_of(shard: int) -> list[str]:
    """Return the documents of a shard."""
    return [f"कहानी {shard} का वाक्य {number} यहाँ है।" for number in range(4)]


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write shards of three kinds, the files of a data set that was not written by one program."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(SHARDS):
        texts, name = text_of(shard), f"part-{shard:05d}"
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        if shard % 3 == 0:
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        elif shard % 3 == 1:
            pq.write_table(pa.table({"text": texts}), folder / f"{name}.parquet")
        else:
            (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def settings_of(folder: Path) -> CorpusSettings:
    """Return the settings of a corpus of all files of a folder."""
    return CorpusSettings.model_validate({"sources": str(folder)})


def test_every_document_of_every_file_is_read_once(shards: Path, tmp_path: Path) -> None:
    """The splits together hold the documents of all files, each once."""
    (tmp_path / "corpus").mkdir()
    build_corpus(settings_of(shards), "hi", Draft(tmp_path / "corpus"))
    corpus = Corpus.open(tmp_path / "corpus")
    found = [text for split in ("train", "heldout") for text in corpus.documents(split)]
    assert sorted(found) == sorted(text for shard in range(SHARDS) for text in text_of(shard))


def test_one_file_is_open_at_a_time(shards: Path) -> None:
    """Reading many files needs no more open files than reading one."""
    open_files = []
    for _ in read_source(settings_of(shards).sources[0], "hi"):
        names = map(os.readlink, _descriptors())
        open_files.append(sum("part-" in str(name) for name in names))
    assert len(open_files) == 4 * SHARDS
    assert max(open_files) == 1


def _descriptors() -> Iterator[Path]:
    for number in Path("/proc/self/fd").iterdir():
        if os.path.lexists(number):
            yield number


def change(path: Path) -> None:
    """Write other text into a file."""
    path.write_text('{"text": "दूसरा पाठ"}\n', encoding="utf-8")


def replace_with_same_size(path: Path) -> None:
    """Put another file of the same size in the place of a file."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    other.replace(path)


def rewrite_and_restore_time(path: Path) -> None:
    """Write other text of the same size into a file, and set its time back."""
    state = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def truncate(path: Path) -> None:
    """Cut a file off, as a broken copy does."""
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("fault", "shard", "said"),
    [
        (change, "part-00011.jsonl", "the file was changed while the run used it; run again"),
        (replace_with_same_size, "part-00010.parquet", "the file was changed while"),
        (rewrite_and_restore_time, "part-00010.parquet", "the file was changed while"),
        (truncate, "part-00012.jsonl.gz", "the file was changed while"),
        (Path.unlink, "part-00013.parquet", "the file was removed while the run used it; restore"),
    ],
)
def test_a_file_that_is_not_as_it_was_listed_is_named(
    shards: Path, tmp_path: Path, fault: Callable[[Path], object], shard: str, said: str
) -> None:
    """No text is stored under a key that was made from other text."""
    settings = settings_of(shards)
    listing = list_files(settings)
    fault(shards / shard)
    with pytest.raises(CorpusError, match=said) as caught:
        build_corpus(settings, "hi", Draft(tmp_path), listing)
    assert str(caught.value).startswith(f"{shards / shard}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_changes_while_it_is_read_is_named(shards: Path) -> None:
    """A file is looked at again after its last document."""
    settings = settings_of(shards)
    documents = read_source(settings.sources[0], "hi", list_files(settings))
    assert next(documents) == text_of(0)[0]
    (shards / "part-00000.jsonl.gz").touch()
    with pytest.raises(CorpusError, match=r"part-00000\.jsonl\.gz: the file was changed"):
        list(documents)


def test_a_file_that_was_added_is_not_read(shards: Path) -> None:
    """The text is that of the listed files, from which the key is made."""
    settings = settings_of(shards)
    listing = list_files(settings)
    change(shards / "part-99999.jsonl")
    assert len(list(read_source(settings.sources[0], "hi", listing))) == 4 * SHARDS


@pytest.mark.parametrize("shard", ["part-00012.jsonl.gz", "part-00010.parquet"])
def test_a_damaged_file_is_named(shards: Path, tmp_path: Path, shard: str) -> None:
    """A file that was cut off before the run is one line with its name."""
    truncate(shards / shard)
    with pytest.raises(CorpusError) as caught:
        build_corpus(settings_of(shards), "hi", Draft(tmp_path))
    assert str(caught.value).startswith(f"{shards / shard}: ")
    assert "\n" not in str(caught.value)


def test_the_identity_of_many_files_is_short(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest has one hash for many files, which changes if any of them does."""
    settings = settings_of(shards)
    assert len(identity_of(settings, "hi")["sources"][0]["files"]) == SHARDS
    monkeypatch.setattr(identity, "MAX_FILES", SHARDS - 1)
    files = identity_of(settings, "hi")["sources"][0]["files"]
    assert files["count"] == SHARDS
    change(shards / "part-00029.jsonl")
    changed = identity_of(settings, "hi")["sources"][0]["files"]
    assert changed["count"] == SHARDS
    assert changed["sha256"] != files["sha256"]


def test_files_are_hashed_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash of a large file is cached, unless the file was changed a moment ago."""
    monkeypatch.setattr(identity, "CACHED_FROM", 1)
    settings = settings_of(shards)
    before = identity_of(settings, "hi")
    assert not any(map(identity.has_cached_sha256, shards.iterdir()))
    for path in shards.iterdir():
        os.utime(path, (1e9, 1e9))
    assert identity_of(settings, "hi") == before
    monkeypatch.setattr("lingraft.store.digests.file_digest", lambda _: pytest.fail("read again"))
    assert identity_of(settings, "hi") == before
    monkeypatch.undo()
    changed = shards / "part-00029.jsonl"
    change(changed)
    assert identity_of(settings, "hi")["sources"][0]["files"][29][1] == file_digest(changed)


def test_a_plan_does_not_read_a_large_text(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages of text that was not hashed yet have no key; a run hashes it, and then they have."""
    monkeypatch.setattr(identity, "CACHED_FROM", 1)
    monkeypatch.setattr(identity, "PLANNED_BYTES", 1000)
    for path in shards.iterdir():
        os.utime(path, (1e9, 1e9))
    written = tmp_path / "recipe.yaml"
    written.write_text(f"name: many\nmodel: {BASE}\ntarget: {{language: hi, sources: {shards}}}\n")
    recipe = load_recipe(written)
    runtime = Runtime(tmp_path / "runs", tmp_path / "store", "cpu")
    rows = {row.title: row for row in plan(recipe, runtime)}
    text = rows["text in hi"]
    assert text.key is None is rows["vocabulary"].key
    assert rows["source model"].key
    assert any("30 files were not read before" in note for note in text.notes)
    identity_of(settings_of(shards), "hi")
    assert unread_identity_of(list_files(settings_of(shards))) is None
    assert all(row.key for row in plan(recipe, runtime))
