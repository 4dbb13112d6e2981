"""Text that is not what it seems: UTF-16, decomposed letters, text cut into pieces."""

from __future__ import annotations

import gzip
import json
import unicodedata

import pytest

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.errors import CorpusError
from lingraft.store import Draft

RUSSIAN = [f"Утром дети идут к реке, номер {number}." for number in range(100)]
KOREAN = [f"아침에 아이들이 강으로 걸어갑니다. 번호 {number}" for number in range(100)]
HINDI = [f"सुबह बच्चे नदी की ओर चलते हैं, संख्या {number}" for number in range(100)]


def built(folder, lines, language, **settings):
    """Build a corpus from these lines; return it and the notes."""
    path = folder / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    draft = Draft(folder / "corpus")
    draft.folder.mkdir()
    build_corpus(CorpusSettings.model_validate({"sources": str(path), **settings}), language, draft)
    return Corpus.open(draft.folder), draft.notes


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".txt.gz"])
def test_wide_encodings_without_a_mark_are_refused_by_name(tmp_path, encoding, ending):
    """Russian in UTF-16 is valid UTF-8 with NULs: the message has the command to convert it."""
    lines = (
        [json.dumps({"text": line}, ensure_ascii=False) for line in RUSSIAN]
        if "json" in ending
        else RUSSIAN
    )
    content = "\n".join(lines).encode(encoding)
    path = tmp_path / f"ru{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    name = encoding.replace("-le", "LE").replace("-be", "BE").upper()
    with pytest.raises(CorpusError, match=rf"NUL.*iconv -f {name} -t UTF-8"):
        build_corpus(CorpusSettings.model_validate({"sources": str(path)}), "ru", Draft(tmp_path))


@pytest.mark.parametrize(
    ("language", "lines"), [("ko", KOREAN), ("ru", ["й ёлка " + line for line in RUSSIAN])]
)
def test_decomposed_text_is_reported_and_nfc_brings_it_together(tmp_path, language, lines):
    """Text in NFD gives a warning with the setting that helps; the setting removes it."""
    apart = [unicodedata.normalize("NFD", line) for line in lines]
    for name in ("as-read", "composed"):
        (tmp_path / name).mkdir()
    _, notes = built(tmp_path / "as-read", apart, language)
    (warning,) = notes["warnings"]
    assert warning.startswith(f"text in {language}: 100 of 100 documents are not in NFC (")
    assert "unicode_normalization: NFC" in warning
    assert notes["findings"]["documents not in NFC"] == 100
    corpus, notes = built(tmp_path / "composed", apart, language, unicode_normalization="NFC")
    assert "warnings" not in notes
    assert sorted([*corpus.documents("train"), *corpus.documents("heldout")]) == sorted(lines)


@pytest.mark.parametrize(
    ("cutter", "cut"),
    [
        (
            "SentencePiece",
            lambda line: " ".join(f"▁{word[:3]} {word[3:]}" for word in line.split()),
        ),
        ("SentencePiece", lambda line: "▁" + line.replace(" ", " ▁")),
        ("byte-level", lambda line: line.replace(" ", " Ġ")),
        ("subword-nmt", lambda line: " ".join(f"{word[:2]}@@ {word[2:]}" for word in line.split())),
        (
            "WordPiece",
            lambda line: " ".join(f"{word[:2]} ##{word[2:] or 'x'}" for word in line.split()),
        ),
    ],
)
def test_text_that_a_tokenizer_cut_is_found(tmp_path, cutter, cut):
    """Text that is split into subtokens gives a warning with the command that joins it."""
    _, notes = built(tmp_path, [cut(line) for line in HINDI], "hi")
    (warning,) = notes["warnings"]
    assert "100 of 100 documents are split into subtokens by" in warning
    assert cutter in warning
    assert "sed '" in warning


@pytest.mark.parametrize(
    "line",
    [
        "# Title ## not a mark",
        "write to me@@home or a@b",
        "the sign ▁ is U+2581",
        "##",
        "Ġ is a letter of Maltese: Ġgantija, in a sentence that has many words more",
    ],
)
def test_ordinary_text_is_no_finding(tmp_path, line):
    """A mark here and there, a heading, an address: nothing is said."""
    _, notes = built(tmp_path, [*HINDI, *(f"{line} {text}" for text in HINDI)], "hi")
    assert "warnings" not in notes
    assert notes["findings"]["documents cut into pieces"] == {}


def test_nul_characters_in_rows_are_found(tmp_path):
    """Rows whose text was decoded wrongly before it was written are found by their NULs."""
    path = tmp_path / "ru.jsonl"
    rows = [json.dumps({"text": line.encode("utf-16-le").decode("latin-1")}) for line in RUSSIAN]
    path.write_text("\n".join(rows) + "\n")
    draft = Draft(tmp_path)
    build_corpus(CorpusSettings.model_validate({"sources": str(path)}), "ru", draft)
    assert "contain NUL characters" in draft.notes["warnings"][0]
