"""Claims about any text, and what the base itself loses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.advice import measure, recommend
from lingraft.certificate import BASE_LOSS, Evidence, certify_any_text, certify_texts
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.byte_level_bpe import BPE, pre_tokenizers
from lingraft.tokenizer.edge_cases import broad_sample, random_texts
from lingraft.tokenizer.json_format import build_backend
from lingraft.tokenizer.unknown_tokens import measure_round_trip
from lingraft.vocabulary import SELECTIONS, SelectionRequest
from lingraft.vocabulary.build_splice import build_splice
from tests.small_bases import BASES
from tests.test_vocabulary_unigram import t5_like

TEXTS = [
    "नमस्ते दुनिया यह एक छोटी कहानी है",
    "வணக்கம் உலகம் ஒரு சிறிய கதை",
    "the other weather is better",
] * 5
FAMILIES = {name: family_of(make(), Path("base")) for name, make in BASES.items()}
BPES = [name for name, family in FAMILIES.items() if isinstance(family, BPE)]


def selected(family, method="continued", size=60):
    request = SelectionRequest(
        family, family.units(TEXTS), size, base_counts=family.units(["other words"])
    )
    return SELECTIONS.parse(method).select(request)


def written(folder, data):
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}")
    return open_tokenizer(folder)


def evidence_of(tmp_path, name, method="continued", change=lambda data: data):
    """Extend a small base and return the evidence for its certificate."""
    source = written(tmp_path / "source", (t5_like if name == "T5" else BASES[name])())
    data, splice = build_splice(
        source.family, source.family, selected(source.family, method), tmp_path
    )
    target = written(tmp_path / "target", change(data))
    return Evidence(
        source, target, splice, lambda: TEXTS, lambda: TEXTS[:3], lambda: ["other words here"]
    )


EXTENDED = {
    name: (
        FAMILIES[name].backend,
        build_backend(FAMILIES[name].with_tokens(selected(FAMILIES[name]).surfaces)),
    )
    for name in BPES
}


@pytest.mark.parametrize("name", BPES)
@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60) | st.text("aehortw नमस्ेदुிவண 12\n", max_size=60))
def test_no_text_whatever_needs_more_tokens_of_an_extended_bpe(name, text):
    """No text needs more tokens with an extended BPE."""
    before, after = (len(one.encode(text, add_special_tokens=False).ids) for one in EXTENDED[name])
    assert after <= before


@pytest.mark.parametrize("name", BPES)
def test_the_certificate_promises_it_on_a_broad_sample(tmp_path, name):
    """The claim about any text is fatal for a BPE, and is checked on a broad sample."""
    claim = certify_any_text(evidence_of(tmp_path, name))
    assert claim.holds
    assert claim.fatal
    assert claim.of == len(broad_sample()) + 3 + 1
    assert "promised for any text" in claim.detail


def test_where_tokens_were_taken_out_it_is_not_promised(tmp_path):
    """If tokens were removed, the claim counts longer texts without stopping the run."""
    claim = certify_any_text(evidence_of(tmp_path, "byte-level BPE", "prune"))
    assert not claim.fatal
    assert claim.detail.startswith("not promised: tokens were taken out")
    assert claim.value > 0


def test_where_the_pre_tokenizer_cuts_more_it_is_not_promised(tmp_path):
    """A pre-tokenizer that splits every character makes texts longer, and the claim says why."""

    def parted(data):
        apart = {
            "type": "Split",
            "pattern": {"Regex": "."},
            "behavior": "Isolated",
            "invert": False,
        }
        return {
            **data,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [apart, *pre_tokenizers(data)]},
        }

    claim = certify_any_text(evidence_of(tmp_path, "byte-level BPE", change=parted))
    assert claim.value > 0
    assert not claim.fatal
    assert "the changed pre-tokenizer cuts" in claim.detail


def test_the_sample_is_broad_and_always_the_same():
    """The sample contains every script's block, and two calls give the same texts."""
    assert broad_sample() == broad_sample()
    assert random_texts(20) != random_texts(20, seed=1)
    together = "".join(broad_sample())
    assert all(
        any(low <= ord(character) < high for character in together)
        for low, high in (
            (0x590, 0x600),
            (0x900, 0x980),
            (0xE00, 0xE80),
            (0x4E00, 0x9FFF),
            (0x1F300, 0x1FB00),
        )
    )


def test_what_the_base_loses_is_stated_by_the_certificate_and_by_diagnose(assets, tmp_path):
    """T5's normalizer removes ZWNJ from Persian text; the loss is counted as that of the base."""
    persian = [f"صبح\u200cها بچه\u200cها به رودخانه می\u200cروند {number}" for number in range(50)]
    base = open_tokenizer(assets / "tokenizers" / "t5")
    found = measure_round_trip(base, persian)
    assert found.documents == found.changed == 50
    assert found.lost["\u200c"] == 150
    measures = measure(base, persian)
    assert measures.round_trip == found
    (warning,) = [
        one for one in recommend(measures, None, None, None, None).warnings if "itself loses" in one
    ]
    assert "U+200C ZERO WIDTH NON-JOINER (150 times)" in warning


def test_the_base_s_loss_is_a_claim_of_its_own(tmp_path):
    """The loss of the base is a claim for information; the target's round trip still holds."""
    claims = {claim.name: claim for claim in certify_texts(evidence_of(tmp_path, "byte-level BPE"))}
    assert claims[BASE_LOSS].holds
    (tmp_path / "unigram").mkdir()
    claims = {claim.name: claim for claim in certify_texts(evidence_of(tmp_path / "unigram", "T5"))}
    assert claims[BASE_LOSS].value > 0
    assert not claims[BASE_LOSS].fatal
    assert "DEVANAGARI" in claims[BASE_LOSS].detail or "TAMIL" in claims[BASE_LOSS].detail
    assert claims["round trip on target text"].holds
