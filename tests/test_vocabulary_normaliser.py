"""The tokenizer gets the normaliser of the text only where base-language text stays equal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from transformers import AutoTokenizer

from lingraft.certificate import NORMALISER
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.store import WARNINGS, Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.edge_cases import code_texts
from lingraft.vocabulary import SELECTIONS, Extension, extend_tokenizer
from tests.small_bases import BASES, ENGLISH

KOREAN = [f"아침에 아이들이 강으로 걸어갑니다. 번호 {number}" for number in range(60)]
ENGLISH_LINES = [f"{line} {number}" for number in range(20) for line in ENGLISH]
DECOMPOSED = [unicodedata.normalize("NFD", line) for line in KOREAN]


def corpus(folder, language, lines, form=None):
    folder.mkdir(parents=True)
    file = folder / "lines.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    chosen = {"sources": str(file), "heldout_share": 0.2, "cleaning": {"normalise": form}}
    build_corpus(CorpusSettings.model_validate(chosen), language, Draft(folder))
    return Corpus.open(folder)


def extended(tmp_path, *, base="byte-level BPE", replay=ENGLISH_LINES, form="NFC", normalizer=None):
    """Extend a small base with decomposed Korean; return folder, claim, tokenizer.json, draft."""
    source = tmp_path / "source"
    source.mkdir(parents=True)
    data = BASES[base]()
    if normalizer is not None:
        data["normalizer"] = normalizer
    (source / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (source / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    korean = corpus(tmp_path / "ko", "ko", DECOMPOSED, form)
    english = corpus(tmp_path / "en", "en", replay) if replay else None
    (tmp_path / "out").mkdir()
    draft = Draft(tmp_path / "out")
    method = Extension(SELECTIONS.parse("continued"), 40)
    extend_tokenizer(source, [korean], method, draft, base=english)
    certificate = json.loads((tmp_path / "out/certificate.json").read_text(encoding="utf-8"))
    claims = {claim["name"]: claim for claim in certificate["claims"]}
    folder = tmp_path / "out/tokenizer"
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return folder, claims.get(NORMALISER), written["normalizer"], draft


def test_both_forms_of_a_text_get_the_same_tokens(tmp_path):
    """Text in NFD gets the tokens that were learned in NFC, in transformers too; English stays."""
    folder, claim, normalizer, draft = extended(tmp_path)
    assert normalizer == {"type": "NFC"}
    assert claim["holds"]
    # Each line is a document, and only its first copy is kept.
    documents = list(dict.fromkeys("\n".join(ENGLISH_LINES).splitlines()))
    texts = [*code_texts(), *documents]
    assert claim["of"] == len(texts)
    size = sum(len(text.encode()) for text in texts)
    assert claim["detail"].endswith(
        f"it leaves {len(documents)} base-language documents and {len(code_texts())} code "
        f"samples ({size:,} bytes) as they are"
    )
    assert "the tokenizer gets it" in claim["detail"]
    loaded = AutoTokenizer.from_pretrained(str(folder))
    ours, before = open_tokenizer(folder), open_tokenizer(tmp_path / "source")
    composed, decomposed = KOREAN[0], DECOMPOSED[0]
    ids = ours.encode([composed, decomposed])
    assert list(ids[0]) == list(ids[1]) == loaded.encode(decomposed) == loaded.encode(composed)
    assert len(ids[0]) < len(before.encode([composed])[0])
    assert ours.encode(ENGLISH) == before.encode(ENGLISH)
    assert not [line for line in draft.notes.get(WARNINGS, ()) if "NFC" in line]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"replay": [*ENGLISH_LINES, "cafe\u0301 au lait"]}, "it changes 1 of "),
        ({"replay": None}, "there is no base-language text"),
        ({"base": "SentencePiece BPE"}, "has its own table of characters"),
    ],
)
def test_the_tokenizer_keeps_its_normaliser_otherwise(tmp_path, given, reason):
    """The certificate and a warning say why; the warning says what to do."""
    _, claim, normalizer, draft = extended(tmp_path, **given)
    plain = BASES[given.get("base", "byte-level BPE")]()["normalizer"]
    assert normalizer == plain
    assert not claim["holds"]
    assert "the tokenizer does not get it" in claim["detail"]
    (warning,) = [line for line in draft.notes[WARNINGS] if line.startswith("tokenizer: ")]
    assert reason in warning
    assert warning.endswith("convert what the model reads to NFC")


def test_a_normaliser_of_the_base_is_kept(tmp_path):
    """One that converts text itself is enough; others come after that of the text."""
    _, claim, normalizer, draft = extended(tmp_path / "own", normalizer={"type": "NFC"})
    assert normalizer == {"type": "NFC"}
    assert "the tokenizer of the base converts text itself" in claim["detail"]
    assert not [line for line in draft.notes.get(WARNINGS, ()) if line.startswith("tokenizer: ")]
    nothing = {"type": "Replace", "pattern": {"String": "\u2028"}, "content": " "}
    _, claim, normalizer, _ = extended(tmp_path / "other", normalizer=nothing)
    assert normalizer == {"type": "Sequence", "normalizers": [{"type": "NFC"}, nothing]}
    assert claim["holds"]


def test_text_as_it_was_read_changes_no_normaliser(tmp_path):
    """Without `normalise`, there is neither a claim nor another normaliser."""
    _, claim, normalizer, _ = extended(tmp_path, form=None)
    assert claim is None
    assert normalizer is None
