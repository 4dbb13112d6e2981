"""Base tokens that only a changed pre-tokenizer can produce, and how their rows are made."""

from __future__ import annotations

import gzip
import json
import random
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Regex, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from lingraft.checkpoint import resize_embeddings
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.embeddings import INITS
from lingraft.pipeline import extend
from lingraft.pretokenizer import (
    completions,
    make_mark_aware,
    newly_reachable,
    split_where_always_cut,
)
from lingraft.pretokenizer.pre_tokens import build_factors
from lingraft.recipe import Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.splice import AddedToken, Splice, identity_splice
from lingraft.store import Draft
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.convert import GPT2_REGEX, LLAMA3_REGEX
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.vocabulary import SELECTIONS, Extension, SelectionRequest, extend_tokenizer
from lingraft.vocabulary.build_splice import build_splice
from lingraft.vocabulary.pretokenizer_choice import LearningSample, OptionScore, score_option
from lingraft.vocabulary.pretokenizer_options import find_options
from tests.small_bases import ENGLISH, byte_level, sentencepiece

WORDS = """ที่ นี่ ได้ ไม่ มี เป็น ว่า กับ ข้อมูล น้ำ แม่น้ำ เด็ก พี่ น้อง โรงเรียน ทุกวัน วันนี้ เมื่อ คน บ้าน เมือง ต้นไม้
สีเขียว นก ร้องเพลง หนังสือ อ่าน เขียน จดหมาย พี่ชาย เช้า เดิน ริมฝั่ง ชาวนา แอปเปิล ลูกสาว ให้ สูง ตัวเล็ก
ยาว""".split()  # noqa: SIM905
STRANGE = st.text("aB1 '!\n\u0e01\u0e35\u0e48\u0915\u093f\u200d\u0301\ufe0fж中", max_size=12)


def thai(documents, seed=0):
    """Return documents of Thai words, which are written without spaces between them."""
    chance = random.Random(seed)
    lines = [["".join(chance.choices(WORDS, k=6)) for _ in range(4)] for _ in range(documents)]
    return [" ".join(line) for line in lines]


@pytest.fixture(scope="session")
def borrowed(tmp_path_factory):
    """Return a base whose vocabulary was learned with another expression, as Qwen2's was."""
    folder = tmp_path_factory.mktemp("borrowed")
    data = byte_level([*ENGLISH, *thai(40)], 420, r"\s?\S+|\s+")
    split = {
        "type": "Split",
        "pattern": {"Regex": LLAMA3_REGEX},
        "behavior": "Isolated",
        "invert": False,
    }
    data["pre_tokenizer"]["pretokenizers"][0] = split
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    config = LlamaConfig(
        vocab_size=424,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return open_tokenizer(folder)


@pytest.fixture(scope="session")
def extended(borrowed, tmp_path_factory):
    """Extend that base for Thai, with the pre-tokenizer left to `auto`; return the folder."""
    root = tmp_path_factory.mktemp("extended")
    lines = "\n".join(json.dumps({"text": text}) for text in thai(150, seed=1))
    (root / "thai.jsonl").write_text(lines, encoding="utf-8")
    (root / "corpus").mkdir()
    chosen = CorpusSettings.model_validate(
        {"sources": {"path": str(root / "thai.jsonl")}, "heldout_share": 0.2}
    )
    build_corpus(chosen, "th", Draft(root / "corpus"))
    (root / "made").mkdir()
    extension = Extension(SELECTIONS.parse("continued"), 40)
    extend_tokenizer(
        borrowed.folder, [Corpus.open(root / "corpus")], extension, Draft(root / "made")
    )
    return root / "made"


def produced_by(tokenizer, texts):
    """Return every id of these texts, and of the texts of the tokenizer's own tokens."""
    own = [
        text
        for surface in tokenizer.vocabulary.surfaces
        if surface
        for text in completions(surface)[:64]
    ]
    return {i for ids in tokenizer.encode([*texts, *own]) for i in ids}


def splice_of(folder):
    return Splice.read(folder)


def claims_of(folder):
    return {
        claim["name"]: claim
        for claim in json.loads((folder / "certificate.json").read_text())["claims"]
    }


@pytest.mark.parametrize(
    "pattern",
    [
        GPT2_REGEX,
        LLAMA3_REGEX,
        r"\p{N}{1,3}",
        r" ?[^(\s|[.,!?])]+",
        LLAMA3_REGEX.replace(r"\p{L}+", r"[\p{L}\p{M}]+"),
    ],
)
@settings(max_examples=150, deadline=None)
@given(text=STRANGE, ends=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_whatever_a_pre_token_holds_is_found_possible(pattern, text, ends):
    """Every part of a pre-token of `tokenizers`, partial characters included, may be whole."""
    cutting = build_factors(pattern, matches=True, gaps=True)
    for part, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text):
        encoded = part.encode()
        begin, end = sorted(ends)
        assert cutting.may_be_whole(encoded[begin:end])


@pytest.mark.parametrize(
    ("surface", "whole"),
    [
        ("ab", True),
        (" ab", True),
        ("กา", True),
        ("่ย", True),
        ("!!\n", True),
        ("123", True),
        ("ที่", False),
        ("ี่ย", False),
        ("a b", False),
        ("1234", False),
        ("a1", False),
        ("  a", False),
    ],
)
def test_what_llama_3_can_produce(surface, whole):
    """No pre-token of Llama-3 holds two marks before a letter, or a letter before a mark."""
    assert (
        build_factors(LLAMA3_REGEX, matches=True, gaps=True).may_be_whole(surface.encode()) == whole
    )


def test_parts_of_characters_stand_for_every_character_that_has_them():
    """A letter and the first byte of a mark or letter may be whole; a mark between letters not."""
    cutting = build_factors(LLAMA3_REGEX, matches=True, gaps=True)
    assert cutting.may_be_whole("ก".encode() + b"\xe0\xb8")
    assert not cutting.may_be_whole("ที".encode() + b"\xe0\xb8")
    assert cutting.may_be_whole(b"\xb8\x81" + "ก".encode())
    assert not cutting.may_be_whole(b"\xff" + "ก".encode())
    assert "กข" in completions("ก".encode() + b"\xe0\xb8")


def test_unreachable_tokens_are_never_produced_and_reachable_ones_are(borrowed):
    """`tokenizers` produces them with the changed pre-tokenizer only, and no other untrained id."""
    changed = family_of(make_mark_aware(borrowed.family.data), borrowed.folder)
    found = newly_reachable(borrowed.family, changed)
    texts = [*thai(300, seed=2), *WORDS, *ENGLISH]
    by_base = produced_by(borrowed, texts)
    by_changed = {
        i
        for encoding in changed.backend.encode_batch(texts, add_special_tokens=False)
        for i in encoding.ids
    }
    assert not found & by_base
    assert len(found & by_changed) > 20
    assert by_changed <= by_base | found


def test_nothing_becomes_reachable_where_nothing_changed(borrowed):
    """The same pre-tokenizer produces the same tokens."""
    assert newly_reachable(borrowed.family, borrowed.family) == frozenset()


def test_a_tokenizer_of_another_family_produces_none_of_the_tokens(borrowed):
    """A Unigram or a SentencePiece BPE has other pieces: models of both can be compared."""
    vocabulary = [["<unk>", 0.0], *([piece, -1.0] for piece in borrowed.family.pieces)]
    unigram = {"model": {"type": "Unigram", "vocab": vocabulary, "unk_id": 0}}
    for data in (unigram, sentencepiece([*ENGLISH, *thai(40)])):
        other = family_of(data, borrowed.folder)
        assert newly_reachable(borrowed.family, other) == frozenset()


def test_thai_on_a_borrowed_vocabulary_uses_no_untrained_row(borrowed, extended):
    """Every token of held-out text has a row that the base trained, or that is made for it."""
    splice, target = splice_of(extended), open_tokenizer(extended / "tokenizer")
    texts = thai(30, seed=3)
    used = [i for ids in target.encode(texts) for i in ids]
    by_base = produced_by(borrowed, texts)
    assert {splice.kept[i] for i in used if i in splice.kept} <= by_base
    assert sum(i in splice.reinitialised for i in used) > 0.1 * len(
        used
    )  # what would be untrained else
    claims = claims_of(extended)
    assert claims["no untrained base row in use"]["holds"]
    assert claims["no base token becomes reachable"]["value"] == len(splice.reinitialised)
    assert claims["base ids kept"]["holds"]
    assert claims["scripts cut as before"]["exceptions"][:1] == ["Thai"]


def test_reinitialised_rows_are_made_from_what_the_base_really_cuts(borrowed, extended, tmp_path):
    """Their pieces are the base's segmentation, and they are initialised; other base rows stay."""
    splice = splice_of(extended)
    assert splice.is_extension
    assert len(splice.new) == 40
    again = [token for token in splice.added if token.id in splice.reinitialised]
    for token in again:
        assert b"".join(borrowed.vocabulary.surfaces[i] for i in token.pieces) == token.surface
        if b"\\" not in token.text.encode():
            assert list(token.pieces) == borrowed.encode([token.surface.decode()])[0]
    notes = resize_embeddings(
        borrowed.folder,
        extended / "tokenizer",
        splice,
        input_init=INITS.parse("mean"),
        output_init=INITS.parse("calibrated"),
        output=tmp_path / "model",
    )
    before, after = (
        load_file(folder / "model.safetensors") for folder in (borrowed.folder, tmp_path / "model")
    )
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        kept = torch.tensor(sorted(splice.kept))
        assert torch.equal(after[name][kept], before[name][kept])
        for token in again:
            assert not torch.equal(after[name][token.id], before[name][token.id])
    rows = before["model.embed_tokens.weight"]
    for token in again:
        torch.testing.assert_close(
            after["model.embed_tokens.weight"][token.id], rows[list(token.pieces)].mean(0)
        )
    assert notes["base_rows"].startswith(f"bit-identical, but for {len(again)} reinitialised")
    assert (notes["added"], notes["reinitialised"]) == (40, len(again))


def test_extend_writes_a_model_with_reinitialised_rows(borrowed, tmp_path):
    """After the whole command every fatal claim holds, those about rows and transformers too."""
    text = tmp_path / "thai.jsonl"
    text.write_text(
        "\n".join(json.dumps({"text": line}) for line in thai(150, seed=1)), encoding="utf-8"
    )
    recipe = parse_recipe(
        Tree(
            {
                "name": "thai",
                "model": str(borrowed.folder),
                "vocabulary": {"size": 40},
                "target": {"language": "th", "corpus": str(text), "heldout_share": 0.2},
            }
        )
    )
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    folder = extend(recipe, runtime, tmp_path / "out", log=lambda _line: None)
    claims = claims_of(folder / "lingraft")
    assert [name for name, claim in claims.items() if claim["fatal"] and not claim["holds"]] == []
    splice = splice_of(folder / "lingraft")
    assert splice.reinitialised
    before, after = (load_file(one / "model.safetensors") for one in (borrowed.folder, folder))
    kept = torch.tensor(sorted(splice.kept))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(after[name][kept], before[name][kept])


def test_norms_and_shared_rows_leave_untrained_rows_out(borrowed, extended, tmp_path):
    """Calibration reads the norm of a script from trained rows; untrained rows change nothing."""
    splice = splice_of(extended)
    folders = []
    for factor in (1.0, 1e4):
        folder = tmp_path / f"base-{factor:g}"
        folder.mkdir()
        weights = load_file(borrowed.folder / "model.safetensors")
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name][sorted(splice.untrained)] *= factor
        for file in borrowed.folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        model = LlamaForCausalLM.from_pretrained(folder)
        model.load_state_dict(weights)
        model.save_pretrained(folder)
        made = tmp_path / f"made-{factor:g}"
        init = INITS.parse("calibrated")
        resize_embeddings(
            folder, extended / "tokenizer", splice, input_init=init, output_init=init, output=made
        )
        folders.append(load_file(made / "model.safetensors"))
    ids = torch.tensor([token.id for token in splice.added])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(folders[0][name][ids], folders[1][name][ids])


@pytest.mark.parametrize("method", ["append", "atomic", "prune", "replace"])
def test_every_method_names_reinitialised_ids(borrowed, tmp_path, method):
    """Tokens that become reachable are initialised also if tokens are dropped or renumbered."""
    option = find_options(borrowed.family, borrowed.folder)[0]
    counts = option.family.units(thai(60, seed=6))
    request = SelectionRequest(
        option.family, counts, 30, base_counts=borrowed.family.units(ENGLISH), where=tmp_path
    )
    data, splice = build_splice(
        borrowed.family, option.family, SELECTIONS.parse(method).select(request), tmp_path
    )
    target = family_of(data, tmp_path)
    assert target.size == splice.target_size
    assert splice.reinitialised
    assert splice.untrained >= option.reachable - set(splice.dropped)
    for target_id, source_id in splice.reinitialised.items():
        assert target.vocabulary.surfaces[target_id] == borrowed.vocabulary.surfaces[source_id]
    used = {i for ids in target.encode([*thai(60, seed=6), *ENGLISH]) for i in ids}
    by_base = produced_by(borrowed, [*thai(60, seed=6), *ENGLISH])
    assert {splice.kept[i] for i in used if i in splice.kept} <= by_base


def test_the_change_is_stated_with_its_reason_and_its_consumers(extended):
    """pretokenizer.json holds the change, its reason, the scripts, the loaders and a summary."""
    change = json.loads((extended / "pretokenizer.json").read_text(encoding="utf-8"))
    assert change["changed"]
    assert change["llama_cpp"] is None
    assert change["before"] == [LLAMA3_REGEX]
    assert "Thai" in [row["script"] for row in change["scripts"]]
    line = change["summary"]
    assert "\n" not in line
    assert line.startswith(
        "pre-tokenizer changed (mark-aware: combining marks continue the letters"
    )
    assert "saves " in line
    assert f"{change['reinitialised']} base tokens reinitialised" in line
    assert "loads in transformers, tokenizers and vLLM" in line
    assert "not in llama.cpp, which has no name for it (of its mark-aware ones, qwen35 is" in line
    assert line.endswith("digits: '12' is split '12' by the base and '1|2' with it)")


def test_the_saving_is_that_of_a_base_that_never_held_the_untrained_tokens(borrowed):
    """What `auto` weighs does not depend on base tokens that nothing trained."""
    option = find_options(borrowed.family, borrowed.folder)[0]
    sampled = LearningSample(thai(100, seed=4), SELECTIONS.parse("continued"), 40)
    clean = family_of(borrowed.family.without_tokens(option.reachable), borrowed.folder)
    other = find_options(clean, borrowed.folder)[0]
    assert not other.reachable
    assert score_option(borrowed.family, option, sampled) == score_option(clean, other, sampled)
    assert 0 < score_option(borrowed.family, option, sampled).saving < 1


def test_growth_of_the_base_s_own_tokens_counts_against_a_change():
    """Growth of the text before tokens are added is a cost; a negative growth is no extra gain."""
    assert OptionScore(0.30, 0.05).net == pytest.approx(0.25)
    assert OptionScore(0.30, -0.05).net == 0.30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": {0: 0, 1: 1, 2: 2}}, "must name every target id from 0 on exactly once"),
        ({"reinitialised": {}}, "must keep, reinitialise or drop each of"),
        (
            {"reinitialised": {2: 2, 0: 0}, "kept": {1: 1}},
            "must name every target id from 0 on exactly once",
        ),
        ({"reinitialised": {1: 2}}, "reinitialised ids must be ids of added tokens"),
        ({"added": (AddedToken(2, b"ab", (2,)),)}, "are reinitialised: the source tokenizer never"),
    ],
)
def test_a_splice_checks_its_reinitialised_ids(changes, message):
    """Each id has one row from one source, and no row is computed from an untrained one."""
    sound = {
        "source_size": 3,
        "kept": {0: 0, 1: 1},
        "added": (AddedToken(2, b"ab", (0, 1)),),
        "reinitialised": {2: 2},
    }
    splice = Splice(**sound)
    assert Splice.from_json(json.loads(splice.dumps())) == splice
    assert splice.is_extension
    assert splice.new == ()
    with pytest.raises(ValueError, match=message):
        Splice(**{**sound, **changes})


def test_a_splice_of_an_earlier_version_is_read():
    """A file without reinitialised ids has none."""
    old = {
        "format": 1,
        "source_size": 2,
        "kept": [[0, 0, 2]],
        "added": [[2, "6162", [0, 1], 4]],
        "dropped": [],
    }
    splice = Splice.from_json(old)
    assert splice.reinitialised == {}
    assert splice.to_json() == old


def test_qwen2_thai_tokens_are_found(assets):
    """Qwen2 holds Thai tokens that it never produces (ที่, ได้, ข้อมูล): a third of the text."""
    qwen2 = open_tokenizer(assets / "tokenizers" / "qwen2")
    changed = family_of(make_mark_aware(qwen2.family.data), qwen2.folder).reuse_model_of(
        qwen2.family
    )
    found = newly_reachable(qwen2.family, changed)
    assert {qwen2.vocabulary.ids[word.encode()] for word in ("ที่", "ได้", "ข้อมูล", "ี่ย")} <= found
    with gzip.open(assets / "text" / "th.heldout.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(10), file, strict=False)]
    by_base = {i for ids in qwen2.encode(texts) for i in ids}
    used = [
        i
        for encoding in changed.backend.encode_batch(texts, add_special_tokens=False)
        for i in encoding.ids
    ]
    assert not found & by_base
    assert sum(i in found for i in used) > 0.3 * len(used)
    assert split_where_always_cut(qwen2.family, "ที่ได้".encode()) == [
        "ท".encode(),
        "ี่".encode(),
        "ได".encode(),
        "้".encode(),
    ]


@pytest.mark.parametrize("model_type", [None, "qwen2", "llama"])
def test_a_model_type_written_later_does_not_undo_the_change(borrowed, tmp_path, model_type):
    """A changed pre-tokenizer is kept although AutoTokenizer builds its own for qwen2."""
    from transformers import AutoTokenizer

    alone, folder = tmp_path / "alone", tmp_path / "changed"
    alone.mkdir()
    shutil.copyfile(borrowed.folder / "tokenizer.json", alone / "tokenizer.json")
    source = open_tokenizer(alone)
    save_tokenizer(
        source, make_mark_aware(source.family.data), identity_splice(source.size), folder
    )
    if model_type:
        (folder / "config.json").write_text(
            json.dumps({"model_type": model_type}), encoding="utf-8"
        )
    texts = [*thai(3, seed=5), *ENGLISH]
    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assert loaded(texts, add_special_tokens=False)["input_ids"] == open_tokenizer(folder).encode(
        texts
    )
