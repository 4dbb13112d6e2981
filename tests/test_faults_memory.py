"""Text of absurd shapes: refused in one line, or read in bounded memory."""

from __future__ import annotations

import gzip
import os
import tracemalloc

import pytest

from lingraft.corpus.build import build_corpus
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.text_files import MAX_DOCUMENT_BYTES
from lingraft.errors import CorpusError
from lingraft.store import Draft


def build(path, folder, **settings):
    """Build a corpus of a file; return the draft and the most memory that Python held."""
    folder.mkdir()
    draft = Draft(folder)
    chosen = CorpusSettings.model_validate({"sources": {"path": str(path)}, **settings})
    tracemalloc.start()
    try:
        build_corpus(chosen, "en", draft)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * MAX_DOCUMENT_BYTES
    return draft, peak


@pytest.mark.parametrize("compressed", [False, True], ids=["5 GB", "a bomb"])
def test_a_line_without_end_is_refused(tmp_path, compressed):
    """A line of 5 GB or a 200 KB file that unpacks to a line of 200 MB is refused.

    The message has the place, the limit, and what to do.
    """
    path = tmp_path / ("a.txt.gz" if compressed else "a.txt")
    if compressed:
        with gzip.open(path, "wb") as file:
            for _ in range(200):
                file.write(b"x" * 10**6)
    else:
        path.write_bytes(b"x" * 10**6)  # a file that begins with NULs is refused as UTF-32
        os.truncate(path, 5 * 10**9)  # takes no room on the disk
    with pytest.raises(
        CorpusError, match=rf"{path}:1: the line is longer than 64 MiB.*split it into lines"
    ):
        build(path, tmp_path / "draft")


def test_a_bomb_of_many_lines_is_read_in_little_memory(tmp_path):
    """30 MB of one repeated line, packed into 100 KB, is deduplicated in a few MB of memory.

    The duplicates are counted.
    """
    path = tmp_path / "a.txt.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"".join(b"line %d\n" % number for number in range(100)))
        for _ in range(30):
            file.write(b"the same words " * 66_600 + b"\n")
    draft, peak = build(path, tmp_path / "draft")
    assert draft.notes["dropped"]["duplicate"]["documents"] == 29
    assert peak < 60e6


def test_a_document_too_long_to_tokenise_is_refused_or_dropped(tmp_path):
    """A line of 17 MB is refused with its beginning and the settings to change.

    These settings can drop or accept it.
    """
    path = tmp_path / "a.txt"
    path.write_text(
        "short enough\n" + "a long story " * 1_310_000 + "\nanother\nand one more\n",
        encoding="utf-8",
    )
    with pytest.raises(
        CorpusError,
        match=r"a\.txt: a document has 17\.0 MB \(it begins with 'a long story .*"
        r"max_document_bytes is 16 MB, .*drop it \(max_characters\)",
    ):
        build(path, tmp_path / "refused")
    draft, _ = build(path, tmp_path / "dropped", max_characters=10**6)
    assert draft.notes["train"]["documents"] + draft.notes["heldout"]["documents"] == 3
    draft, _ = build(path, tmp_path / "taken", max_document_bytes="20 MB")
    assert draft.notes["train"]["documents"] + draft.notes["heldout"]["documents"] == 4
