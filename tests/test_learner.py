"""Continued BPE: what the fast learner finds is what the slow, obvious one finds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingraft.families import family_of
from lingraft.families.content import bare_of
from lingraft.selection import Continued, SelectionRequest
from lingraft.selection.learner import Learner
from lingraft.selection.reach import cut_by_base
from lingraft.selection.words import cut_words
from tests.small_bases import BASES

ALPHABET = "abt eho्काि\nத"
FAMILIES = {name: family_of(make(), Path("base")) for name, make in BASES.items()}


def model_of(family, surfaces):
    return bare_of(family.extended(surfaces))


def segments(family, surfaces, unit):
    """Return a unit as the extended tokenizer cuts it, a character without a piece as its bytes in one."""
    tokens = model_of(family, surfaces).encode(unit, add_special_tokens=False).tokens
    parts, torn = [], b""
    for token in tokens:
        surface = family.surface_of(token)
        if not family.fallback or not token.startswith("<0x"):
            parts.append((surface, 1))
            continue
        torn += surface
        try:
            torn.decode()
        except UnicodeDecodeError:
            continue
        parts.append((torn, len(torn)))
        torn = b""
    return parts


def slow_continuation(family, counts, size):
    """At each step cut everything anew with the real tokenizer, and add what two neighbours spell most often."""
    chosen, refused = [], set()
    base = {surface for i, surface in enumerate(family.vocabulary.surfaces) if i not in family.fallback}
    while len(chosen) < size:
        gains = Counter()
        for unit, count in counts.items():
            parts = segments(family, chosen, unit)
            for surface, cost in parts:
                if cost > 1:
                    gains[surface] += (cost - 1) * count
            for (left, left_cost), (right, right_cost) in pairwise(parts):
                if left_cost == right_cost == 1:
                    gains[left + right] += count
        usable = {surface: gain for surface, gain in gains.items()
                  if gain >= 1 and surface not in base | refused | {*chosen} and family.allows(surface)}
        if not usable:
            return chosen
        best = min(usable, key=lambda surface: (-usable[surface], len(surface), surface))
        if segments(family, [*chosen, best], family.piece_of(best)) == [(best, 1)]:
            chosen.append(best)
        else:
            refused.add(best)
    return chosen


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.text(ALPHABET, min_size=1, max_size=24), min_size=1, max_size=5))
def test_the_learner_adds_exactly_the_tokens_of_the_slow_reference(name, texts):
    """The same tokens in the same order as re-cutting all text with the real tokenizer after every addition."""
    family = FAMILIES[name]
    counts = family.units(texts)
    fast = Continued().select(SelectionRequest(family, counts, 12))
    assert list(fast.surfaces) == slow_continuation(family, counts, 12)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.text(ALPHABET, min_size=1, max_size=40), min_size=1, max_size=8))
def test_the_words_of_the_learner_end_as_the_extended_tokenizer_cuts_them(name, texts):
    """The words that the learner holds at its end have as many tokens as the written tokenizer cuts them into."""
    family = FAMILIES[name]
    counts = family.units(texts)
    words = cut_words(family, counts)
    learner = Learner(words, allowed=family.allows, cut_alone=cut_by_base(family), minimum=1)
    surfaces = list(learner.run(30))
    costs = dict(enumerate(words.costs, words.virtual))
    held = sum(costs.get(symbol, 1) * weight for symbol, weight
               in zip(learner.chain.symbol.tolist(), learner.chain.weight.tolist(), strict=True) if symbol >= 0)
    after = model_of(family, surfaces)
    cut = sum(len(after.encode(unit, add_special_tokens=False).ids) * count for unit, count in counts.items())
    assert held == cut


@pytest.mark.parametrize("name", FAMILIES)
def test_every_learned_token_is_reached_from_its_own_spelling(name):
    """The model alone, given the spelling of an added token, answers with that token."""
    family = FAMILIES[name]
    texts = ["नमस्ते दुनिया यह एक छोटी कहानी है", "वह अपने भाई का लंबा पत्र पढ़ती है", "தமிழ் ஒரு மொழி"] * 3
    chosen = Continued().select(SelectionRequest(family, family.units(texts), 60))
    model = model_of(family, chosen.surfaces)
    assert chosen.surfaces
    for i, surface in enumerate(chosen.surfaces):
        assert model.encode(family.piece_of(surface), add_special_tokens=False).ids == [family.size + i]


@pytest.mark.parametrize("name", FAMILIES)
def test_protected_text_keeps_its_segmentation(name):
    """No token is added that would be used anywhere in protected text, and what was left out is counted."""
    family = FAMILIES[name]
    english = ["the other weather", "mother and father", "other"]
    texts = ["bother mother the weather here", "brother the weather there"] * 4
    free = Continued().select(SelectionRequest(family, family.units(texts), 20))
    kept = Continued().select(SelectionRequest(family, family.units(texts), 20, frozenset(family.units(english))))
    before, after, unprotected = (model_of(family, surfaces) for surfaces in ((), kept.surfaces, free.surfaces))
    units = list(family.units(english))
    cut = lambda model: [model.encode(unit, add_special_tokens=False).ids for unit in units]  # noqa: E731
    assert cut(after) == cut(before)
    assert cut(unprotected) != cut(before)
    assert kept.notes["left out: it would change protected text"] > 0
