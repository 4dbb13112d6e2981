"""Extending tokenizers of every family with every method, checked by the certificate."""

from __future__ import annotations

import gzip
import json
import os
import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.certificate import (
    NEVER_WAIVED,
    Claim,
    Evidence,
    certify_texts,
    certify_vocabulary,
    write_certificate,
)
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.errors import CertificateError, RecipeError
from lingraft.pipeline import claims_table
from lingraft.recipe.schema import VocabularySettings
from lingraft.splice import Splice, identity_splice
from lingraft.store import Draft
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.convert import QWEN_REGEX
from lingraft.tokenizer.json_format import build_backend
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.vocabulary import (
    SELECTIONS,
    Append,
    AutoSize,
    Extension,
    SelectionRequest,
    ServingCost,
    extend_tokenizer,
)
from lingraft.vocabulary.build_splice import build_splice, extend_family
from tests.conftest import HINDI as STORY
from tests.small_bases import BASES, ENGLISH

HINDI = [
    "नमस्ते दुनिया, यह एक छोटी कहानी है।",
    "वह अपने भाई का लंबा पत्र पढ़ती है।",
    "सुबह बच्चे नदी की ओर चलते हैं।",
] * 3


def written_base(name, folder, **learned):
    folder.mkdir(parents=True, exist_ok=True)
    data = BASES[name](**learned)
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    first = data["added_tokens"][-1]["content"]
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": first, "chat_template": "{{ messages }}"})
    )
    return open_tokenizer(folder)


@pytest.fixture(scope="session")
def corpora(some_text, tmp_path_factory):
    """Build a small real corpus of each language, once."""
    root = tmp_path_factory.mktemp("corpora")

    def of(language: str) -> Corpus:
        folder = root / language
        if not folder.exists():
            folder.mkdir()
            size = 150_000 if language == "en" else 300_000  # English is only compared
            chosen = {"sources": str(some_text(language, size)), "heldout_share": 0.1}
            build_corpus(CorpusSettings.model_validate(chosen), language, Draft(folder))
        return Corpus.open(folder)

    return of


def extend(source, corpora, folder, method="continued", size=300, *, base=None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    draft = Draft(folder)
    extend_tokenizer(
        source, corpora, Extension(SELECTIONS.parse(method), size, **settings), draft, base=base
    )
    claims = {
        claim["name"]: claim
        for claim in json.loads((folder / "certificate.json").read_text())["claims"]
    }
    splice = Splice.read(folder)
    return draft, claims, splice


REAL = [
    ("llama2", "ta"),
    ("gpt2", "th"),
    ("t5", "tr"),
    pytest.param("mistral", "ar", marks=pytest.mark.long),
    pytest.param("llama3", "ta", marks=pytest.mark.long),
    pytest.param("qwen2", "hi", marks=pytest.mark.long),
    pytest.param("pythia", "tr", marks=pytest.mark.long),
    pytest.param("nemo", "th", marks=pytest.mark.long),
    pytest.param("focus-ar", "tr", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "language"), REAL)
def test_a_real_tokenizer_is_extended_and_every_claim_holds(
    assets, corpora, tmp_path, name, language
):
    """All fatal claims of the certificate hold for an extended tokenizer of each real family."""
    _, claims, splice = extend(
        assets / "tokenizers" / name, [corpora(language)], tmp_path, base=corpora("en")
    )
    assert [
        claim["name"] for claim in claims.values() if claim["fatal"] and not claim["holds"]
    ] == []
    assert len(splice.new) == 300
    assert splice.is_extension
    target, source = (
        open_tokenizer(tmp_path / "tokenizer"),
        open_tokenizer(assets / "tokenizers" / name),
    )
    texts = list(islice(corpora(language).documents("heldout"), 20))
    assert len(texts) >= 4
    assert sum(map(len, target.encode(texts))) < 0.85 * sum(map(len, source.encode(texts)))


@pytest.mark.parametrize("method", ["continued", "append", "atomic", "prune", "replace", "none"])
@pytest.mark.parametrize("name", ["pythia", pytest.param("llama2", marks=pytest.mark.long)])
def test_every_method_keeps_what_it_promises_on_real_tokenizers(
    assets, corpora, tmp_path, method, name
):
    """Each method writes a tokenizer of the expected size, and its splice names every id."""
    source = open_tokenizer(assets / "tokenizers" / name)
    draft, _, splice = extend(source.folder, [corpora("hi")], tmp_path, method, base=corpora("en"))
    target = open_tokenizer(tmp_path / "tokenizer")
    sizes = {"prune": source.size - 300, "replace": source.size, "none": source.size}
    assert target.size == splice.target_size == sizes.get(method, source.size + 300)
    assert draft.notes["method"] == method
    if splice.dropped:
        remap = json.loads((tmp_path / "id_remap.json").read_text())
        assert {int(old): new for old, new in remap.items()} == {
            s: t for t, s in splice.kept.items()
        }


def test_continued_bpe_needs_no_more_tokens_than_any_other_method(assets, corpora, flores):
    """With equally many added tokens, other text is shortest with the default method."""
    family = open_tokenizer(assets / "tokenizers" / "llama2").family
    counts = family.units(corpora("hi").documents("train"))
    lengths = {}
    for method in ("continued", "append", "atomic"):
        selected = SELECTIONS.parse(method).select(SelectionRequest(family, counts, 1000))
        assert len(selected.surfaces) == 1000
        extended = build_backend(extend_family(family, selected))
        encoded = extended.encode_batch([row["hi"] for row in flores], add_special_tokens=False)
        lengths[method] = sum(len(encoding.ids) for encoding in encoded)
    assert min(lengths, key=lengths.get) == "continued"


def test_the_paper_s_thousand_hindi_tokens_are_beaten(assets, flores):
    """1,000 tokens learned here segment FLORES shorter than the 1,000 that the paper published."""
    import sentencepiece

    (published,) = (assets / "tokenizers" / "hindi-llama-bpe1k").iterdir()
    texts = [row["hi"] for row in flores]
    theirs = sum(
        map(len, sentencepiece.SentencePieceProcessor(model_file=str(published)).encode(texts))
    )
    family = open_tokenizer(assets / "tokenizers" / "llama2").family
    with gzip.open(assets / "text" / "hi.train.jsonl.gz", "rt", encoding="utf-8") as file:
        counts = family.units(json.loads(line)["text"] for line in file)
    chosen = SELECTIONS.parse("continued").select(SelectionRequest(family, counts, 1000))
    ours = build_backend(family.with_tokens(chosen.surfaces)).encode_batch(
        texts, add_special_tokens=False
    )
    assert sum(len(encoding.ids) for encoding in ours) < 0.95 * theirs


def test_automatic_repair_is_taken_where_it_pays_and_leaves_english_alone(
    assets, corpora, tmp_path
):
    """`auto` changes a letters-only regex for Hindi with its saving stated, not for Turkish."""
    source = assets / "models" / "english-8m"
    hindi, claims, _ = extend(source, [corpora("hi")], tmp_path / "hi", base=corpora("en"))
    turkish, _, _ = extend(source, [corpora("tr")], tmp_path / "tr", base=corpora("en"))
    assert hindi.notes["pre-tokenizer repaired"]
    assert "the change alone moves no id in" in hindi.notes["pre-tokenizer"]
    assert claims["base-language documents identical"]["value"] <= 2
    assert not turkish.notes["pre-tokenizer repaired"]


def test_several_languages_share_one_splice_and_none_grows(assets, corpora, tmp_path):
    """Tokens learned on a mixture shorten every language of it."""
    languages = [corpora(language) for language in ("hi", "ta", "tr")]
    _, claims, _ = extend(
        assets / "tokenizers" / "llama2", languages, tmp_path, size=900, temperature=3.0
    )
    assert claims["no target document longer"]["holds"]
    source, target = (
        open_tokenizer(assets / "tokenizers" / "llama2"),
        open_tokenizer(tmp_path / "tokenizer"),
    )
    for corpus in languages:
        texts = list(corpus.documents("heldout"))
        assert sum(map(len, target.encode(texts))) < 0.8 * sum(map(len, source.encode(texts)))


def test_automatic_size_follows_its_rule(tmp_path):
    """An automatic size selects the same tokens as a fixed size of the same number."""
    source = written_base("byte-level BPE", tmp_path / "source").folder
    # Rare words, whose tokens save less than they cost.
    digits_as_letters = str.maketrans("0123456789", "abcdefghij")
    rare = [str(number * 7919).translate(digits_as_letters) for number in range(200)]
    corpus = lines_corpus(tmp_path / "hi", "hi", [f"{a} {b}" for b in rare for a in STORY])
    auto = AutoSize(rule="serving", max_size=1000)
    costly = ServingCost(body=0, head_per_row=1e3, rows=100)
    _, _, splice = extend(source, [corpus], tmp_path / "auto", size=auto, serving=costly)
    curve = json.loads((tmp_path / "auto" / "curve.json").read_text())
    assert 0 < len(splice.new) < curve["added"][-1]
    assert curve["tokens"] == sorted(curve["tokens"], reverse=True)
    _, _, fixed = extend(source, [corpus], tmp_path / "fixed", size=len(splice.new))
    assert fixed == splice


def test_protected_text_is_certified_document_by_document(assets, corpora, tmp_path):
    """With `protect` no training document of the base language changes."""
    source = assets / "tokenizers" / "llama2"
    draft, claims, _ = extend(source, [corpora("tr")], tmp_path, base=corpora("en"), protect=True)
    assert claims["protected documents identical"]["holds"]
    assert claims["protected documents identical"]["of"] == corpora("en").counts("train").documents
    assert draft.notes["left out: it would change protected text"] > 0


def test_protection_without_base_text_is_refused(assets, corpora, tmp_path):
    """`protect` without base-language text is an error, because it could not be checked."""
    with pytest.raises(
        RecipeError, match=r"vocabulary\.protect_replay: there is no base-language text"
    ):
        extend(assets / "tokenizers" / "llama2", [corpora("tr")], tmp_path, protect=True)


def test_the_extended_files_load_in_transformers_and_sentencepiece(assets, corpora, tmp_path):
    """lingraft, transformers and SentencePiece give the same ids to the extended files."""
    import sentencepiece
    from transformers import AutoTokenizer

    extend(assets / "tokenizers" / "llama2", [corpora("hi")], tmp_path)
    folder = tmp_path / "tokenizer"
    texts = list(islice(corpora("hi").documents("heldout"), 30))
    mine = open_tokenizer(folder).encode(texts)
    assert (
        AutoTokenizer.from_pretrained(folder)(texts, add_special_tokens=False)["input_ids"] == mine
    )
    assert (
        sentencepiece.SentencePieceProcessor(
            model_file=os.fspath(folder / "tokenizer.model")
        ).encode(texts)
        == mine
    )
    assert (
        json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"]
        == "PreTrainedTokenizerFast"
    )


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(
        st.text("abc thनिकम\nத் \u2029", min_size=1, max_size=50), min_size=1, max_size=6
    ),
    learned=st.lists(st.text("abc theनिक", min_size=1, max_size=40), min_size=1, max_size=4),
    size=st.integers(300, 360),
    method=st.sampled_from(["continued", "append", "replace"]),
)
def test_claims_hold_over_random_bases_and_texts(  # noqa: PLR0917 - hypothesis fills them in by name
    tmp_path_factory, name, texts, learned, size, method
):
    """All fatal claims hold for random bases and texts with every method."""
    folder = tmp_path_factory.mktemp("random")
    source = written_base(name, folder / "source", texts=[*ENGLISH[:2], *learned], size=size)
    family = source.family
    request = SelectionRequest(
        family, family.units(texts), 15, base_counts=family.units(ENGLISH), where=folder
    )
    selected = SELECTIONS.parse(method).select(request)
    data, splice = build_splice(family, family, selected, folder)
    save_tokenizer(source, data, splice, folder / "target")
    target = open_tokenizer(folder / "target")
    evidence = Evidence(source, target, splice, lambda: texts, lambda: texts, lambda: ENGLISH)
    claims = [*certify_vocabulary(evidence), *certify_texts(evidence)]
    assert [claim.name for claim in claims if claim.fatal and not claim.holds] == []


def test_appended_tokens_consist_of_tokens(tmp_path):
    """A line separator is never a token, so a token with one is dropped and counted."""
    family = written_base("SentencePiece BPE", tmp_path / "source").family
    texts = ["नमस्ते।\u2029नमस्ते।\u2029नमस्ते", "नमन।\u2029"] * 5
    chosen = Append().select(SelectionRequest(family, family.units(texts), 60))
    extended = family_of(family.with_tokens(chosen.surfaces), tmp_path)
    cut = extended.segment([family.piece_of(surface) for surface in chosen.surfaces])
    assert cut == [[family.size + i] for i in range(len(chosen.surfaces))]
    assert not [surface for surface in chosen.surfaces if "\u2029".encode() in surface]
    assert chosen.notes["dropped: no merge reaches it when it stands alone"] > 0


def test_appended_tokens_do_not_cross_the_ends_of_units(tmp_path):
    """Equal lines without a space before them do not become tokens of several lines."""
    family = written_base("SentencePiece BPE", tmp_path / "source").family
    text = " " + "\n".join(["नमस्ते", "दुनिया", "कहानी"] * 50)
    chosen = Append().select(SelectionRequest(family, family.units([text]), 60))
    assert "नमस्ते".encode() in chosen.surfaces
    assert [surface.decode() for surface in chosen.surfaces if surface not in text.encode()] == []


def test_an_automatic_size_may_be_no_token(tmp_path, capsys):
    """A text of tokens that the base has gets none, with a warning and not an error."""
    source = written_base("byte-level BPE", tmp_path / "source")
    path = tmp_path / "text.txt"
    path.write_text("\n".join("e" * size for size in range(1, 21)), encoding="utf-8")
    chosen = CorpusSettings.model_validate({"sources": str(path), "heldout_share": 0.2})
    (tmp_path / "corpus").mkdir()
    build_corpus(chosen, "en", Draft(tmp_path / "corpus"))
    corpus = Corpus.open(tmp_path / "corpus")
    method = {"continued": {"min_saving": 10_000}}
    _, _, splice = extend(source.folder, [corpus], tmp_path / "out", method, AutoSize())
    assert splice.added == ()
    assert "size auto adds 0 tokens" in capsys.readouterr().err


def test_a_broken_claim_stops_the_run_unless_it_is_waived(tmp_path):
    """A failed fatal claim is an error with its name, its count and the setting that accepts it."""
    claims = [
        Claim("tokenizer.model agrees", 3, 100, "texts", "alike"),
        Claim("added tokens used", 5, 9, "tokens", "used", fatal=False),
    ]
    message = r"tokenizer.model agrees: 3 of 100 texts.*allow: \['tokenizer.model agrees'\]"
    with pytest.raises(CertificateError, match=message):
        write_certificate(claims, tmp_path / "certificate.json")
    write_certificate(claims, tmp_path / "certificate.json", waived=["tokenizer.model agrees"])
    rows = json.loads((tmp_path / "certificate.json").read_text())["claims"]
    assert [(row["holds"], row["waived"]) for row in rows] == [(False, True), (False, False)]


@pytest.mark.parametrize("name", NEVER_WAIVED)
def test_no_waiver_moves_a_token_of_the_base(tmp_path, name):
    """Claims about ids of the base cannot be waived, and no message suggests it."""
    with pytest.raises(ValidationError, match=f"'{name}' cannot be waived"):
        VocabularySettings.model_validate({"allow": [name]})
    with pytest.raises(CertificateError, match=f"'{name}' cannot be waived") as caught:
        write_certificate(
            [Claim(name, 1, 9, "tokens", "kept")], tmp_path / "certificate.json", waived=[name]
        )
    assert "vocabulary.allow" not in str(caught.value)


def test_a_claim_that_was_checked_on_nothing_does_not_hold(tmp_path):
    """0 of 0 is "not checked" in the file, the table and the error; only a recipe can accept it."""
    claims = [Claim("tokenizer.model agrees", 0, 0, "texts", "agrees")]
    certificate = tmp_path / "certificate.json"
    with pytest.raises(CertificateError, match="agrees: not checked, there were no texts"):
        write_certificate(claims, certificate)
    (row,) = json.loads(certificate.read_text())["claims"]
    assert (row["checked"], row["holds"]) == (False, False)
    assert list(claims_table(certificate).columns[2].cells) == ["not checked"]
    write_certificate(claims, certificate, waived=["tokenizer.model agrees"])


@pytest.mark.parametrize("name", ["byte-level BPE"])
def test_no_held_out_text_is_no_proof(tmp_path, name):
    """Without held-out documents the claims about them are not checked; others are omitted."""
    source = written_base(name, tmp_path / "source")
    splice = identity_splice(source.size)
    claims = certify_texts(Evidence(source, source, splice, list, list))
    assert {claim.name: claim.holds for claim in claims} == {
        "no target document longer": False,
        "round trip on target text": False,
    }


@pytest.mark.parametrize("name", BASES)
def test_a_special_token_that_moved_is_seen(tmp_path, name):
    """The certificate detects a target with changed special tokens and merges."""
    source = written_base(name, tmp_path / "source")
    data, splice = build_splice(
        source.family,
        source.family,
        SELECTIONS.parse("continued").select(
            SelectionRequest(source.family, source.family.units(HINDI), 10)
        ),
        Path(),
    )
    data["added_tokens"][0]["lstrip"] = True
    data["model"]["merges"] = data["model"]["merges"][1:]
    save_tokenizer(source, data, splice, tmp_path / "target")
    target = open_tokenizer(tmp_path / "target")
    claims = certify_vocabulary(
        Evidence(source, target, splice, lambda: HINDI, lambda: HINDI, tuple)
    )
    broken = {claim.name for claim in claims if not claim.holds}
    assert {"special tokens and chat template kept", "new tokens rank below the base"} <= broken
    assert family_of(data, "made here").size == splice.target_size


LATIN = [
    "wan kat sat ona mat tha",
    "wan dog ran tha kat ona",
    "there is a wan mat ona",
    "the kat and the dog sat",
]


def lines_corpus(folder, language, lines, heldout_share=0.2):
    """Build a corpus of these lines, one document each."""
    folder.mkdir()
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    chosen = CorpusSettings.model_validate(
        {"sources": [str(folder / "text.txt")], "heldout_share": heldout_share}
    )
    build_corpus(chosen, language, Draft(folder))
    return Corpus.open(folder)


def test_much_changed_base_text_is_warned_of_with_the_price_of_protection(tmp_path):
    """If much base text changes, a warning gives the number and the measured cost of `protect`."""
    written_base("byte-level BPE", tmp_path / "source", texts=["ab cd"], size=260)
    target = lines_corpus(
        tmp_path / "sw", "sw", [f"{line} {i}" for i in range(40) for line in LATIN]
    )
    base = lines_corpus(
        tmp_path / "en", "en", [f"{line} {i}" for i in range(30) for line in ENGLISH[:3]]
    )
    free, _, _ = extend(tmp_path / "source", [target], tmp_path / "free", size=40, base=base)
    strict, _, _ = extend(
        tmp_path / "source", [target], tmp_path / "strict", size=40, base=base, protect=True
    )
    (warning,) = [line for line in free.notes["warnings"] if "tokenised differently" in line]
    found = re.search(
        r"([\d,]+) of ([\d,]+) held-out texts in en .*"
        r"protect_replay: true.* for ([\d.]+)% more tokens",
        warning,
    )
    assert int(found[1]) > 0.02 * int(found[2])
    tokens = [
        json.loads((tmp_path / name / "curve.json").read_text())["tokens"][-1]
        for name in ("free", "strict")
    ]
    assert float(found[3]) == pytest.approx(100 * (tokens[1] / tokens[0] - 1), abs=0.06)
    assert not any("tokenised differently" in line for line in strict.notes.get("warnings", ()))


def test_a_hindi_word_in_english_text_does_not_keep_hindi_cut(tmp_path):
    """`auto` changes the pre-tokenizer if only words in the target's script get other ids.

    Protected text keeps every id, so the pre-tokenizer then stays as it is, at the price that the
    warning without protection gives.
    """
    learned = {"texts": [*ENGLISH, *STORY[:2]], "pattern": QWEN_REGEX}
    written_base("byte-level BPE", tmp_path / "source", **learned)
    lines = [f"{line} {i}" for i in range(40) for line in ENGLISH[:3]]
    lines[::6] = [f"{line} the words {STORY[1]}" for line in lines[::6]]
    hindi = [f"{line} {i}" for i in range(30) for line in STORY]
    target = lines_corpus(tmp_path / "hi", "hi", hindi)

    def extended(language, **settings):
        name = f"{language}-{len(settings)}"
        base = lines_corpus(tmp_path / f"base-{name}", language, lines)
        out, given = tmp_path / name, tmp_path / "source"
        draft, _, _ = extend(given, [target], out, size=100, base=base, **settings)
        tokens = json.loads((out / "curve.json").read_text())["tokens"][-1]
        why = json.loads((out / "pretokenizer.json").read_text())["why"]
        return why, tokens, str(draft.notes.get("warnings"))

    aside = (
        r"no id in \d+ base-language documents \(without words in the script of the target text\)"
    )
    for language in ("en", "und"):  # text in an unknown language has the script of most letters
        why, free, warnings = extended(language)
        assert re.search(aside, why)
    why, strict, _ = extended("en", protect=True)
    assert re.fullmatch(r"a change would re-cut \d\d of \d+ protected or held-out documents", why)
    price = re.search(r"protect_replay: true.* for ([\d.]+)% more tokens", warnings)[1]
    assert float(price) == pytest.approx(100 * (strict / free - 1), abs=0.06)


def test_few_held_out_documents_are_cut_into_lines_and_called_thin(tmp_path):
    """Few documents are also checked by lines, at least 200 texts; a warning gives the number."""
    written_base("byte-level BPE", tmp_path / "source")
    documents = ["\n".join(f"{HINDI[i % 3]} {n} {i}" for i in range(80)) for n in range(15)]
    (tmp_path / "hi").mkdir()
    rows = [json.dumps({"text": text}) for text in documents]
    (tmp_path / "hi" / "text.jsonl").write_text("\n".join(rows), encoding="utf-8")
    chosen = {"sources": [str(tmp_path / "hi" / "text.jsonl")], "heldout_share": 0.2}
    build_corpus(CorpusSettings.model_validate(chosen), "hi", Draft(tmp_path / "hi"))
    corpus = Corpus.open(tmp_path / "hi")
    held_out = corpus.counts("heldout")
    draft, claims, _ = extend(tmp_path / "source", [corpus], tmp_path / "out", size=20)
    assert held_out.documents < 20
    assert claims["no target document longer"]["of"] >= 200
    assert "bytes" in claims["no target document longer"]["detail"]
    (warning,) = [line for line in draft.notes["warnings"] if "too few to judge" in line]
    counted = f"{held_out.documents} held-out document{'s' * (held_out.documents > 1)}"
    assert warning.startswith(f"text in hi: {counted} ({held_out.bytes:,} bytes), too few")
