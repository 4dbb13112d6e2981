"""Unigram bases: new pieces are reachable and used, and other text is cut as before."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.errors import TokenizerError
from lingraft.store import Draft
from lingraft.tokenizer import ModelTokenizer, family_of, open_tokenizer
from lingraft.tokenizer.json_format import build_backend
from lingraft.tokenizer.unigram import Unigram, best_segmentation, score_pieces
from lingraft.tokenizer.unknown_tokens import (
    count_tokens,
    count_tokens_and_lost,
    is_as_faithful,
    unknown_piece,
)
from lingraft.vocabulary import (
    Append,
    AutoSize,
    ContinuedBPE,
    Extension,
    SelectionRequest,
    ServingCost,
    extend_tokenizer,
)
from tests.conftest import ENGLISH, HINDI
from tests.small_bases import ENGLISH as MORE_ENGLISH

RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = [*ENGLISH, *MORE_ENGLISH] * 3
SPECIALS = ["<s>", "</s>", "<unk>"]


def lost_characters(tokenizer, texts):
    """Return the number of lost characters of each text."""
    return [lost for _, lost in count_tokens_and_lost(tokenizer, texts)]


def special(token_id, content):
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


@cache
def trained(size=160):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer.to_str()


def t5_like():
    """No byte fallback; sentinels are added tokens that the model does not hold."""
    data = json.loads(trained())
    size = len(data["model"]["vocab"])
    data["added_tokens"] += [special(size + i, f"<extra_id_{i}>") for i in range(3)]
    return data


def xlmr_like():
    """Metaspace in its old form, after a split at white space; the mask token is the last piece."""
    data = json.loads(trained())
    old = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    data["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, old],
    }
    data["decoder"] = old
    data["model"]["vocab"].append(["<mask>", 0.0])
    data["added_tokens"].append(special(len(data["model"]["vocab"]) - 1, "<mask>"))
    return data


def with_bytes():
    """Byte fallback, and no space before a text."""
    data = json.loads(trained())
    data["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "never",
        "split": True,
    }
    data["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    }
    lowest = min(score for _, score in data["model"]["vocab"])
    data["model"]["vocab"] += [[f"<0x{byte:02X}>", lowest] for byte in range(256)]
    data["model"]["byte_fallback"] = True
    return data


BASES = {"T5": t5_like, "XLM-R": xlmr_like, "byte fallback": with_bytes}


def family_for(name):
    return family_of(BASES[name](), Path("base"))


def tokenizer_of(data):
    return ModelTokenizer(Path(), family_of(data, Path("here")), {})


@st.composite
def random_bases(draw):
    """Return a Unigram with random pieces and scores; some characters have no piece."""
    pieces = draw(
        st.lists(st.text("▁abक", min_size=1, max_size=3), min_size=2, max_size=8, unique=True)
    )
    scores = [draw(st.floats(-20, -0.5)) for _ in pieces]
    vocab = [
        ["<unk>", 0.0],
        ["▁", -2.0],
        *([p, s] for p, s in zip(pieces, scores, strict=True) if p != "▁"),
    ]
    data = json.loads(trained())
    data["added_tokens"] = [special(0, "<unk>")]
    data["model"] |= {"vocab": vocab, "unk_id": 0}
    return Unigram(data)


WORDS = st.text(" abकि", min_size=1, max_size=6).filter(lambda text: " " not in text[1:])
SURFACES = st.lists(WORDS, max_size=10, unique=True)


def fresh(family, texts):
    known = family.vocabulary.ids
    return [text.encode() for text in texts if text.encode() not in known and not text.isspace()]


@pytest.mark.parametrize("name", BASES)
def test_a_unigram_is_recognised_and_spells_spaces_as_such(name):
    """Every form of a Unigram file is recognised, and its pieces have surfaces."""
    family = family_for(name)
    assert family.name == "Unigram"
    assert list(family.cut("the cat"))[-1] == "▁cat"
    assert b" the" in family.vocabulary.ids
    assert family.vocabulary.surfaces[family.unknown] is None


@RELAXED
@given(family=random_bases(), texts=SURFACES)
def test_each_added_piece_is_the_best_segmentation_of_its_own_surface(family, texts):
    """The model turns the spelling of each added piece into its id, for random bases and pieces."""
    surfaces = fresh(family, texts)
    extended = Unigram(family.with_tokens(surfaces))
    cut = extended.segment([family.piece_of(surface) for surface in surfaces])
    assert cut == [[family.size + i] for i in range(len(surfaces))]
    assert extended.data["model"]["vocab"][: family.size] == family.data["model"]["vocab"]


@RELAXED
@given(family=random_bases(), texts=SURFACES, unit=st.text("▁abकिz", min_size=1, max_size=12))
def test_text_without_a_new_surface_is_cut_as_before(family, texts, unit):
    """Text that contains no new surface is segmented as before.

    No new score is below the lowest one of the base, so unknown characters keep their cost.
    """
    surfaces = [surface for surface in fresh(family, texts) if family.piece_of(surface) not in unit]
    assert Unigram(family.with_tokens(surfaces)).segment([unit]) == family.segment([unit])


@given(
    known=st.dictionaries(st.text("ab", min_size=1, max_size=3), st.floats(-9, -1), max_size=6),
    piece=st.text("ab", min_size=1, max_size=6),
)
def test_the_best_segmentation_is_the_best_of_all(known, piece):
    """The dynamic programme finds the same score as trying every segmentation."""
    every = [
        [piece[i:j] for i, j in zip((0, *cuts), (*cuts, len(piece)), strict=True)]
        for count in range(len(piece))
        for cuts in combinations(range(1, len(piece)), count)
    ]
    unknown = -30.0
    possible = [
        sum(known.get(part, unknown) for part in parts)
        for parts in every
        if (len(parts) > 1 or len(piece) == 1)
        and all(part in known or len(part) == 1 for part in parts)
    ]
    expected = unknown if len(piece) == 1 else max(possible)
    assert best_segmentation(piece, known, unknown)[0] == pytest.approx(expected)


def test_among_groupings_of_the_same_pieces_the_shortest_wins():
    """The margin grows with the number of pieces saved: [abcd] e is better than a b c [de]."""
    base = {"a": -1.0, "b": -1.0, "c": -1.0, "d": -1.0, "e": -1.0, "zz": -30.0}
    long, short = score_pieces(["abcd", "de"], base)
    known = base | {"abcd": long.score, "de": short.score}
    assert best_segmentation("abcde", known, -50.0)[1] == 2


@pytest.mark.parametrize("name", BASES)
@RELAXED
@given(texts=st.lists(st.text("abt ehoनमस्ते🙂", min_size=1, max_size=40), min_size=1, max_size=6))
def test_continuing_a_unigram_never_costs_tokens_and_never_loses_text(name, texts):
    """On its training text an extended Unigram needs no more tokens and loses no more text."""
    family = family_for(name)
    chosen = ContinuedBPE().select(SelectionRequest(family, family.units(texts), 20))
    before, after = tokenizer_of(family.data), tokenizer_of(family.with_tokens(chosen.surfaces))
    assert len(chosen.surfaces) == len(set(chosen.surfaces)) == len(chosen.saved) <= 20
    assert sum(count_tokens(after, texts)) <= sum(count_tokens(before, texts))
    assert sum(lost_characters(after, texts)) <= sum(lost_characters(before, texts))
    for text, old, new in zip(texts, before.encode(texts), after.encode(texts), strict=True):
        assert is_as_faithful(before.decode(old), after.decode(new), unknown_piece(before)), text
    cut = after.family.segment([family.piece_of(surface) for surface in chosen.surfaces])
    assert cut == [[family.size + i] for i in range(len(chosen.surfaces))]


@pytest.mark.parametrize("name", BASES)
def test_special_tokens_keep_their_ids(name):
    """Special tokens keep their ids after the extension, even if the model does not hold them."""
    family = family_for(name)
    extended = build_backend(family.with_tokens(["नमस्ते".encode(), " दुनिया".encode()]))
    for token_id, content in family.special.items():
        assert extended.token_to_id(content) == token_id
        assert extended.encode(content, add_special_tokens=False).ids[-1] == token_id


def test_lost_characters_come_first_and_are_lost_no_more():
    """Without byte fallback, the letters of the language become pieces before any word."""
    family = family_for("T5")
    counts = family.units(HINDI)
    chosen = ContinuedBPE().select(SelectionRequest(family, counts, 200))
    letters = {character for unit in counts for character in unit if character not in family.pieces}
    first = {surface.decode() for surface in chosen.surfaces[: len(letters)]}
    assert first == letters
    before, after = tokenizer_of(family.data), tokenizer_of(family.with_tokens(chosen.surfaces))
    assert sum(lost_characters(before, HINDI)) > 100
    assert sum(lost_characters(after, HINDI)) == 0
    assert [after.decode(ids).strip() for ids in after.encode(HINDI)] == list(HINDI)


@pytest.mark.parametrize("rule", ["marginal", "serving"])
def test_an_automatic_size_keeps_the_characters_that_the_base_loses(rule):
    """They save no token, and are no reason to stop before the tokens that do."""
    family = family_for("T5")
    chosen = ContinuedBPE().select(SelectionRequest(family, family.units(HINDI), 200))
    lost = next(place for place, saved in enumerate(chosen.saved) if saved)
    cost = ServingCost(body=60, head_per_row=0.001, rows=100)
    assert AutoSize(rule=rule).choose(chosen, cost) > lost > 0
    # Also where nothing else is found, and where rows are what costs.
    alone = dataclasses.replace(chosen, surfaces=chosen.surfaces[:lost], saved=chosen.saved[:lost])
    assert AutoSize(rule=rule).choose(alone, cost) == lost
    costly = ServingCost(body=0, head_per_row=1e6, rows=100)
    assert AutoSize(rule="serving").choose(chosen, costly) >= lost


def test_a_piece_that_a_longer_one_makes_useless_is_not_kept():
    """Every kept piece is used: intermediate pieces of a longer one are not kept."""
    family = family_for("byte fallback")
    counts = Counter({"▁thermostatically": 50, "▁otherworldliness": 40})
    chosen = ContinuedBPE().select(SelectionRequest(family, counts, 30))
    extended = Unigram(family.with_tokens(chosen.surfaces))
    used = {token_id for ids in extended.segment(list(counts)) for token_id in ids}
    assert set(chosen.surfaces) == {b" thermostatically", b" otherworldliness"}
    assert used == {family.size, family.size + 1}
    assert chosen.tokens_before - sum(chosen.saved) == 90


def test_protected_text_keeps_its_segmentation():
    """No added piece is used in protected text."""
    family = family_for("XLM-R")
    english = ["the other weather", "mother and father", "other"]
    texts = ["bother mother the weather here", "brother the weather there"] * 4
    free = ContinuedBPE().select(SelectionRequest(family, family.units(texts), 20))
    kept = ContinuedBPE().select(
        SelectionRequest(family, family.units(texts), 20, frozenset(family.units(english)))
    )
    units = list(family.units(english))
    before, unprotected, protected = (
        Unigram(family.with_tokens(surfaces)).segment(units)
        for surfaces in ((), free.surfaces, kept.surfaces)
    )
    assert protected == before != unprotected
    assert kept.notes["left out: it would change protected text"] > 0


def test_ascii_pieces_are_left_out_of_a_language_in_another_script():
    """ASCII pieces are left out for Hindi text, and kept for Turkish text."""
    family = family_for("T5")
    texts = [*HINDI, "Zeppelin Zeppelin नमस्ते"]
    chosen = ContinuedBPE().select(SelectionRequest(family, family.units(texts), 200))
    assert not [surface for surface in chosen.surfaces if surface.isascii() and len(surface) > 1]
    latin = ContinuedBPE().select(
        SelectionRequest(family, family.units(["Zeppelin uçtu"] * 3), 200)
    )
    assert b" Zeppelin" in latin.surfaces


@pytest.mark.parametrize("name", BASES)
def test_pieces_of_the_append_method_are_reachable_without_merges(name):
    """The tokens of a target BPE are reachable as pieces of a Unigram."""
    family = family_for(name)
    chosen = Append().select(SelectionRequest(family, family.units(HINDI * 3), 100))
    extended = Unigram(family.with_tokens(chosen.surfaces))
    cut = extended.segment([family.piece_of(surface) for surface in chosen.surfaces])
    assert cut == [[family.size + i] for i in range(100)]


def test_a_unigram_grows_at_its_end_only():
    """Adding pieces at other ids than the end is an error that says what to do."""
    family = family_for("T5")
    with pytest.raises(TokenizerError, match="grows at its end"):
        family.with_tokens([b" x"], [5])


@pytest.mark.parametrize(
    ("before", "after", "faithful"),
    [
        ("a b", "a b", True),
        ("a b", "a c", False),
        ("<unk>", "x y", True),
        ("<unk> b <unk>", "q b r", True),
        ("a <unk> b <unk>", "a q c r", False),
        ("<unk> ab", "ab", False),
        ("a<unk>a", "a", False),
    ],
)
def test_a_text_comes_back_as_faithfully_where_only_the_unknown_changed(before, after, faithful):
    """A text is as faithful if it differs only where the other has the unknown piece."""
    assert is_as_faithful(before, after, "<unk>") is faithful


def corpus_of(folder, train, heldout, language):
    options = {}
    for split, texts in (("sources", train), ("heldout", heldout)):
        path = folder / f"{language}.{split}.txt"
        path.write_text("\n".join(texts), encoding="utf-8")
        options[split] = str(path)
    out = folder / language
    out.mkdir()
    build_corpus(CorpusSettings.model_validate(options), language, Draft(out))
    return Corpus.open(out)


def sentencepiece_base(folder):
    """Train a T5-like spiece.model with SentencePiece."""
    import sentencepiece

    folder.mkdir()
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=written,
        model_type="unigram",
        vocab_size=120,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        hard_vocab_limit=False,
        user_defined_symbols=["<sep>"],
    )
    (folder / "spiece.model").write_bytes(written.getvalue())
    return folder


def test_the_sentencepiece_file_is_written_with_the_ids_of_tokenizer_json(tmp_path):
    """All fatal claims hold, and the saved tokenizer.model gives the ids of tokenizer.json."""
    source = sentencepiece_base(tmp_path / "base")
    hindi = corpus_of(tmp_path, HINDI[:3], HINDI[3:], "hi")
    english = corpus_of(tmp_path, ENGLISH[:2], ENGLISH[2:], "en")
    extend_tokenizer(
        source, [hindi], Extension(ContinuedBPE(min_saving=1), 60), Draft(tmp_path), base=english
    )
    claims = {
        row["name"]: row
        for row in json.loads((tmp_path / "certificate.json").read_text())["claims"]
    }
    assert claims["tokenizer.model agrees"]["of"] > 0
    assert all(row["holds"] for row in claims.values() if row["fatal"])
    assert claims["base-language documents identical"]["holds"]
    saved = open_tokenizer(tmp_path / "tokenizer")
    from_file = open_tokenizer(tmp_path / "tokenizer" / "tokenizer.model")
    texts = [*HINDI, *ENGLISH, "a<sep>b"]
    assert saved.encode(texts) == from_file.encode(texts)
    assert saved.family.scores == from_file.family.scores


@pytest.mark.parametrize("base", ["t5", "focus-ar"])
def test_a_real_unigram_takes_hindi(base, assets):
    """A real Unigram is extended for Hindi: all reachable, nothing longer, base text as before."""
    source = open_tokenizer(assets / "tokenizers" / base)
    with gzip.open(assets / "text" / "hi.heldout.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(120), strict=False)]
    chosen = ContinuedBPE().select(SelectionRequest(source.family, source.family.units(texts), 400))
    target = tokenizer_of(source.family.with_tokens(chosen.surfaces))
    cut = target.family.segment([source.family.piece_of(surface) for surface in chosen.surfaces])
    assert cut == [[source.size + i] for i in range(400)]
    before, after = count_tokens(source, texts), count_tokens(target, texts)
    assert all(new <= old for old, new in zip(before, after, strict=True))
    assert sum(after) < 0.7 * sum(before)
    english = [*ENGLISH, *MORE_ENGLISH, "مرحبا بالعالم"]
    assert target.encode(english) == source.encode(english)
