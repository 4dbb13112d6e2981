"""Text that a BPE has no tokens for: it is not learned from, and much of it is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from lingraft.advice import premium as diagnosed_premium
from lingraft.certificate import Evidence, certify_texts
from lingraft.errors import TokenizerError
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.fertility import premium
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.byte_level_bpe import byte_characters
from lingraft.tokenizer.premiums import lost_text_warnings
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.tokenizer.unknown_tokens import (
    count_tokens,
    count_tokens_and_lost,
    find_lost_units,
    lost_share,
)
from lingraft.vocabulary import Append, ContinuedBPE, SelectionRequest
from lingraft.vocabulary.build_splice import build_splice
from lingraft.vocabulary.premium_balance import PremiumBalance, measure_premiums
from tests.small_bases import byte_level, sentencepiece

HINDI = ["नमस्ते दुनिया यह एक छोटी कहानी है", "वह अपने भाई का लंबा पत्र पढ़ती है"] * 3
ENGLISH = ["the cat sat on the mat and the other cat sat there"] * 30


def without_fallback():
    """A SentencePiece BPE with <unk> for characters without a piece."""
    data = sentencepiece()
    return family_of({**data, "model": {**data["model"], "byte_fallback": False}}, Path("base"))


def without_bytes():
    """A byte-level BPE that leaves out the bytes it lacks, here all of Hindi but the first ones."""
    data = byte_level()
    vocab = data["model"]["vocab"]
    for byte in range(0x80, 0xC0):
        vocab.pop(byte_characters()[byte])
    for merge in list(data["model"]["merges"]):
        if any(ord(character) >= 0x80 and character != "Ġ" for character in "".join(merge)):
            data["model"]["merges"].remove(merge)
    return family_of(data, Path("base"))


LOSSY = {"SentencePiece BPE": without_fallback, "byte-level BPE": without_bytes}


@pytest.mark.parametrize("name", LOSSY)
def test_a_bpe_without_tokens_for_much_of_the_text_is_refused(name):
    """The message names the share of the text and says to choose another base."""
    family = LOSSY[name]()
    message = rf"this {name} cannot encode [5-9]\d\.\d% .* choose another base"
    with pytest.raises(TokenizerError, match=message):
        ContinuedBPE().select(SelectionRequest(family, family.units(HINDI), 20))


@pytest.mark.parametrize("name", LOSSY)
def test_no_token_is_learned_from_a_word_with_lost_characters(name):
    """Every added token occurs in the text, also where bytes between two others are left out."""
    family = LOSSY[name]()
    text = [*ENGLISH, "ok é💁é💁"]
    chosen = ContinuedBPE().select(SelectionRequest(family, family.units(text), 200))
    joined = " ".join(text).encode()
    assert chosen.surfaces
    assert [surface for surface in chosen.surfaces if surface not in joined] == []


def test_no_appended_token_needs_a_byte_that_the_base_leaves_out():
    """The extended tokenizer gives each appended token for its own bytes."""
    family = without_bytes()
    text = [*ENGLISH, "ok é💁é💁"]
    chosen = Append().select(SelectionRequest(family, family.units(text), 200))
    extended = family_of(family.with_tokens(chosen.surfaces), Path("extended"))
    cut = extended.segment([family.piece_of(surface) for surface in chosen.surfaces])
    assert chosen.surfaces
    assert cut == [[family.size + i] for i in range(len(chosen.surfaces))]


def test_lost_bytes_are_counted_by_unit():
    """A unit of known characters loses nothing, another one the bytes of its unknown ones."""
    family = without_fallback()
    assert find_lost_units(family, ["▁the", "▁tक", "▁ééth"]) == {"▁tक": 3, "▁ééth": 4}
    family = without_bytes()
    assert find_lost_units(family, Counter(["the", "tà¤ķ"])) == {"tà¤ķ": 2}


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_tokenizers_with_every_byte_lose_nothing(make):
    """A text in any script is learned from."""
    family = family_of(make(), Path("base"))
    assert find_lost_units(family, family.units([*HINDI, "é💁\x00"])) == {}


def test_a_lost_character_counts_as_one_token(tmp_path):
    """A run of unknown characters is one <unk>, but it counts as its characters."""
    data = sentencepiece()
    data["model"]["byte_fallback"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    tokenizer = open_tokenizer(tmp_path)
    (ids,) = tokenizer.encode(["कमल"])
    assert ids.count(0) == 1
    assert count_tokens_and_lost(tokenizer, ["कमल", "the cat"]) == [
        (len(ids) - 1, 3),
        (len(tokenizer.encode(["the cat"])[0]), 0),
    ]


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_a_character_that_a_byte_level_bpe_leaves_out_counts_as_one_token(tmp_path, unknown):
    """What it leaves out makes no text shorter, whether or not a token stands for the bytes."""
    data = json.loads(json.dumps(without_bytes().data))
    vocab = data["model"]["vocab"]
    used = set(vocab.values())
    free = [number for number in range(max(used)) if number not in used]
    vocab |= {f"unused {number}": number for number in free[1:]} | {unknown or "unused": free[0]}
    data["model"]["unk_token"] = unknown
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    tokenizer = open_tokenizer(tmp_path)
    cat = len(tokenizer.encode(["the cat"])[0])
    # Two bytes of each of three letters are missing, and the first one is left.
    assert count_tokens_and_lost(tokenizer, ["कमल", "the cat"]) == [(3, 3), (cat, 0)]
    assert lost_share(tokenizer, ["कमल", "the cat"]) == 0.3
    assert lost_share(tokenizer, [*ENGLISH]) == 0
    columns = {"en": ["the cat"], "hi": ["कमल"]}
    assert diagnosed_premium(tokenizer, columns, "hi") == 6 / cat
    [warning] = lost_text_warnings({"base": tokenizer}, columns)
    assert warning.startswith("parallel sentences in hi: base loses 100% of the characters")


def test_premiums_count_lost_characters(assets):
    """T5 writes a Hindi word as one <unk>; that does not make Hindi cheap."""
    tokenizer = open_tokenizer(assets / "tokenizers" / "t5")
    columns = {"en": ["the river is cold", "we walk"], "hi": ["नदी ठंडी है", "हम चलते हैं"]}
    settings = BootstrapSettings(resamples=100)
    (row,) = premium(tokenizer, columns, "t5", settings)
    tokens = {language: sum(count_tokens(tokenizer, texts)) for language, texts in columns.items()}
    assert tokens["hi"] > 15
    assert row.value == tokens["hi"] / tokens["en"]
    balance = PremiumBalance(columns)
    corpus = SimpleNamespace(language="hi")
    premiums = measure_premiums(balance, [corpus], tokenizer, tokenizer)
    assert premiums.languages[0].before == premiums.languages[0].after == row.value


def test_a_lossy_bpe_may_gain_what_its_base_loses(tmp_path):
    """Appended tokens bring lost characters back, and the certificate takes that as a gain."""
    data = sentencepiece()
    data["model"]["byte_fallback"] = False
    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    tokenizer = open_tokenizer(source)
    chosen = Append().select(SelectionRequest(tokenizer.family, tokenizer.family.units(HINDI), 60))
    target_data, splice = build_splice(tokenizer.family, tokenizer.family, chosen, source)
    save_tokenizer(tokenizer, target_data, splice, tmp_path / "target")
    target = open_tokenizer(tmp_path / "target")
    (text,) = texts = [f"{HINDI[0]} 村"]
    assert HINDI[0] not in tokenizer.decode(tokenizer.encode(texts)[0])
    assert target.decode(target.encode(texts)[0]) == text.replace("村", "<unk>")
    evidence = Evidence(tokenizer, target, splice, lambda: HINDI, lambda: texts)
    claims = {claim.name: claim for claim in certify_texts(evidence)}
    assert claims["round trip on target text"].holds
