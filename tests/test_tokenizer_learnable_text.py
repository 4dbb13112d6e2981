"""The characters of learned tokens: digits as the base cuts them, no useless invisible ones."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.learnable_text import DigitRule, is_learnable
from lingraft.vocabulary import SELECTIONS, SelectionRequest
from tests.small_bases import BASES

FAMILIES = {name: family_of(make(), Path("base")) for name, make in BASES.items()}
SINGLY, ANY = DigitRule(1, after_space=False), DigitRule(99, after_space=True)


def learned(family, texts, method="continued"):
    """Return the texts of the tokens learned from `texts`, with partial characters completed."""
    request = SelectionRequest(family, family.units(texts), 200)
    return [
        surface.decode(errors="ignore")
        for surface in SELECTIONS.parse(method).select(request).surfaces
    ]


@pytest.mark.parametrize(
    ("text", "learnable"),
    [
        ("कमल", True),
        (" कमल", True),
        ("می\u200cخواهم", True),
        ("می\u200c", True),
        ("क्\u200dष", True),
        ("ന്\u200d", True),
        ("❤\ufe0f", True),
        ("👩\u200d👧", True),
        ("ᠬᠠᠭᠠᠨ\u180eᠠ", True),
        ("\u06dd", True),
        ("\u06dd١٢", False),
        ("\u0600 كتاب", True),
        ("ꦏ꧀\u200cꦏ", True),
        ("𞤀𞥄\u200c𞤀", True),
        ("𑄇𑄳\u200d", True),
        ("\u180e", False),
        ("word\u180e", False),
        ("ᠠ\u180e\u180e", False),
        ("ก\u200cข", False),
        ("\u200cها", False),
        ("\u200c", False),
        (" \u200cها", False),
        ("word\u200c", False),
        ("क\u200c\u200d", False),
        ("👩\u200d", False),
        ("\ufe0f", False),
        ("gov\u00adern", False),
        ("\u00ad", False),
        ("ก\u200bข", False),
        ("\ufeffक", False),
        ("क\u200e", False),
        ("\u202bسلام", False),
        ("\ue000", False),
        ("क\x07", False),
        ("\u0378", False),
        ("\u3164", False),
    ],
)
def test_what_steers_nothing_is_not_learned(text, learnable):
    """Only joiners and selectors that follow a character they act on may be in a token."""
    assert is_learnable(text, lambda: ANY) is learnable


@pytest.mark.parametrize(
    ("text", "singly", "by_three", "whole"),
    [
        ("२", True, True, True),
        ("२०", False, True, True),
        ("२०२", False, True, True),
        ("२०२३", False, False, True),
        (" २", False, False, True),
        ("क२", False, False, False),
        ("٢٠٢٣", False, False, True),
        ("२-", False, False, False),
    ],
)
def test_digits_of_every_script_follow_the_rule(text, singly, by_three, whole):
    """One digit and nothing else, up to three, or whole numbers with the space before them."""
    rules = (SINGLY, DigitRule(3, after_space=False), ANY)
    assert tuple(is_learnable(text, lambda: rule) for rule in rules) == (singly, by_three, whole)  # noqa: B023 - at once


@pytest.mark.parametrize(("name", "most"), [("llama2", 1), ("llama3", 3), ("pythia", 7)])
def test_the_rule_of_a_real_base_is_what_it_does_and_years_follow_it(assets, name, most):
    """Hindi years become tokens only as far as the tokenizer keeps ASCII years whole."""
    family = open_tokenizer(assets / "tokenizers" / name).family
    assert family.digit_rule.max_digits == most
    years = [
        f"वर्ष {year} में".translate(str.maketrans("0123456789", "०१२३४५६७८९"))
        for year in range(1990, 2030)
    ] * 9
    found = learned(family, years)
    digits = [sum(character.isdecimal() for character in token) for token in found]
    assert found
    assert max(digits) <= most
    if most == 1:
        assert all(len(token) == 1 for token, count in zip(found, digits, strict=True) if count)


@pytest.mark.parametrize("method", ["continued", "append"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_method_learns_a_hidden_character_from_text_that_is_full_of_them(name, method):
    """No method learns a token with a soft hyphen, zero-width space, direction mark or control."""
    hidden = "\u00ad\u200b\u2060\ufeff\u200e\u202b\ue000\x07"
    text = " ".join(f"सर{mark}कार{mark} {mark}नमस्ते{mark}" for mark in hidden)
    found = learned(FAMILIES[name], [text, "सरकार नमस्ते می\u200cخواهم می\u200cکنم"] * 9, method)
    assert found
    assert not [token for token in found if set(token) & set(hidden)]
    edges = {token.removeprefix(" ")[0] for token in found if token.strip()}
    assert not {character for character in edges if unicodedata.category(character) == "Cf"}


def test_persian_words_keep_their_joiners(assets):
    """On a base with a piece for ZWNJ, learned tokens may hold it, but none begins with it."""
    family = open_tokenizer(assets / "tokenizers" / "llama2").family
    verbs = ("خواهم", "کنم", "روم", "گویم", "دانم", "بینم")
    found = learned(
        family, [" ".join(f"می\u200c{verb} نمی\u200c{verb} {verb}" for verb in verbs)] * 9
    )
    assert any("\u200c" in token[1:] for token in found)
    assert not [token for token in found if token.lstrip().startswith("\u200c")]
