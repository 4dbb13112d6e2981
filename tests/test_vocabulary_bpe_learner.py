"""The BPE learner finds the same tokens as a slow reference that segments all text again."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.json_format import build_model_only
from lingraft.vocabulary import ContinuedBPE, SelectionRequest
from lingraft.vocabulary.bpe_learner import BPELearner
from lingraft.vocabulary.intermediate_tokens import is_valid_utf8
from lingraft.vocabulary.pair_index import PairIndex
from lingraft.vocabulary.word_counts import WordTable, cut_by_base, cut_words
from tests.small_bases import BASES

ALPHABET = "abt eho्काि\nத"
TEXTS = [
    "नमस्ते दुनिया यह एक छोटी कहानी है",
    "वह अपने भाई का लंबा पत्र पढ़ती है",
    "தமிழ் ஒரு மொழி 💁 ✅ கதை",
    "यह कहानी छोटी है, वह पत्र लंबा है",
] * 20
FAMILIES = {name: family_of(make(), Path("base")) for name, make in BASES.items()}


def model_of(family, surfaces):
    return build_model_only(family.with_tokens(surfaces))


def segments(family, surfaces, unit):
    """Return a unit as the extended tokenizer cuts it; the bytes of a character are one part."""
    tokens = model_of(family, surfaces).encode(unit, add_special_tokens=False).tokens
    parts, partial = [], b""
    for token in tokens:
        surface = family.surface_of(token)
        if not family.fallback or not token.startswith("<0x"):
            parts.append((surface, 1))
            continue
        partial += surface
        try:
            partial.decode()
        except UnicodeDecodeError:
            continue
        parts.append((partial, len(partial)))
        partial = b""
    return parts


def count_left_unused(surface, cut, chosen):
    """Count the chosen valid UTF-8 tokens that would be unused if `surface` were a token."""
    uses, taken = Counter(), Counter()
    for parts, count in cut:
        for part, _ in parts:
            uses[part] += count
        place = 0
        while place + 1 < len(parts):
            left, right = parts[place][0], parts[place + 1][0]
            spells = left + right == surface and parts[place][1] == parts[place + 1][1] == 1
            if spells:
                taken[left] += count
                taken[right] += count
            place += 2 if spells and left == right else 1
    return sum(0 < uses[part] <= taken[part] for part in chosen)


def adjacent_pairs(parts):
    """Return the surfaces of adjacent parts, each once; the bytes of a character never merge."""
    return {
        left + right
        for (left, left_cost), (right, right_cost) in pairwise(parts)
        if left_cost == right_cost == 1
    }


def count_merges(parts, surface):
    """Return how many tokens a merge for a surface saves: in `a a a` it is one for `aa`."""
    parts, merges = [part if cost == 1 else None for part, cost in parts], 0
    for cut in range(1, len(surface)):  # the tokenizer merges the shorter left part first
        place = 0
        while place + 1 < len(parts):
            if parts[place : place + 2] == [surface[:cut], surface[cut:]]:
                parts[place : place + 2] = [None]
                merges += 1
            place += 1
    return merges


def slow_continuation(family, counts, size, step_cost):
    """At each step segment everything again with the real tokenizer and add the best pair."""
    chosen, refused = [], set()
    base = {
        surface for i, surface in enumerate(family.vocabulary.surfaces) if i not in family.fallback
    }
    while len(chosen) < size:
        gains = Counter()
        cut = [(segments(family, chosen, unit), count) for unit, count in counts.items()]
        for parts, count in cut:
            for surface, cost in parts:
                if cost > 1:
                    gains[surface] += (cost - 1) * count
            for surface in adjacent_pairs(parts):
                gains[surface] += count_merges(parts, surface) * count
        usable = {
            surface: gain
            for surface, gain in gains.items()
            if gain >= 1 and surface not in base | refused | {*chosen} and family.allows(surface)
        }
        if step_cost:
            usable = {
                surface: gain // (1 + step_cost * count_left_unused(surface, cut, chosen))
                for surface, gain in usable.items()
            }
            usable = {surface: worth for surface, worth in usable.items() if worth}
        if not usable:
            return chosen
        best = min(usable, key=lambda surface: (-usable[surface], len(surface), surface))
        if segments(family, [*chosen, best], family.piece_of(best)) == [(best, 1)]:
            chosen.append(best)
        else:
            refused.add(best)
    return chosen


@pytest.mark.parametrize(
    ("name", "step_cost"),
    [*((name, 0) for name in FAMILIES), *((name, 2) for name in ("Metaspace", "Gemma"))],
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.lists(st.text(ALPHABET, min_size=1, max_size=24), min_size=1, max_size=5),
    copies=st.integers(1, 4),
)
def test_the_learner_adds_exactly_the_tokens_of_the_slow_reference(name, step_cost, texts, copies):
    """The learner adds the same tokens in the same order as the slow reference.

    A step cost is tested only with bases whose candidates are all valid UTF-8: the reference
    does not predict what a partial character leads to.
    """
    family = FAMILIES[name]
    counts = family.units(texts * copies)
    fast = ContinuedBPE(step_cost=step_cost).select(SelectionRequest(family, counts, 12))
    assert list(fast.surfaces) == slow_continuation(family, counts, 12, step_cost)


REPEATED = st.builds(str.__mul__, st.sampled_from(["a", "क", "ab"]), st.integers(1, 30))
RUNS = st.lists(st.text("aabक ", min_size=1, max_size=24) | REPEATED, min_size=1, max_size=6)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=RUNS, size=st.integers(1, 20), step_cost=st.sampled_from([0, 10]))
def test_what_tokens_saved_is_the_difference_of_the_real_numbers_of_tokens(
    name, texts, size, step_cost
):
    """The tokens before, less what each token saved, are those of the extended tokenizer.

    This holds after every token, also in runs of one character, where pairs overlap, and where
    earlier tokens are merged again.
    """
    family = FAMILIES[name]
    counts = family.units(texts)
    chosen = ContinuedBPE(step_cost=step_cost).select(SelectionRequest(family, counts, size))
    for number in {1, len(chosen.surfaces) // 2, len(chosen.surfaces)}:
        model = model_of(family, chosen.surfaces[:number])
        tokens = sum(
            len(model.encode(unit, add_special_tokens=False).ids) * count
            for unit, count in counts.items()
        )
        assert chosen.tokens_before - sum(chosen.saved[:number]) == tokens


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=RUNS)
def test_pairs_in_runs_of_a_character_are_ranked_by_the_merges_that_they_allow(name, texts):
    """The learner adds the same tokens as the slow reference, which counts no overlapping pair."""
    family = FAMILIES[name]
    counts = family.units(texts)
    fast = ContinuedBPE(step_cost=0).select(SelectionRequest(family, counts, 12))
    assert list(fast.surfaces) == slow_continuation(family, counts, 12, 0)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_token_without_a_use_in_the_text_is_there_as_a_step(name):
    """Each added token occurs in the text, or a token that occurs cannot be produced without it.

    The same holds for tokens that are not valid UTF-8. The notes count exactly these tokens.
    """
    family = FAMILIES[name]
    counts = family.units(TEXTS)
    chosen = ContinuedBPE().select(SelectionRequest(family, counts, 80))
    surfaces = list(chosen.surfaces)
    model = model_of(family, surfaces)
    used = {
        surfaces[i - family.size]
        for unit in counts
        for i in model.encode(unit, add_special_tokens=False).ids
        if i >= family.size
    }
    idle = [surface for surface in surfaces if surface not in used]
    partial = [surface for surface in surfaces if not is_valid_utf8(surface)]
    for step in {*idle, *partial}:
        without = [surface for surface in surfaces if surface != step]
        data = family.with_tokens(without)
        shorter = build_model_only(
            {**data, "model": {**data["model"], "ignore_merges": False}}
        )  # merges, no lookup
        assert any(
            len(shorter.encode(family.piece_of(surface), add_special_tokens=False).ids) > 1
            for surface in without
            if surface in used and is_valid_utf8(surface)
        )
    counted = {
        note.partition(":")[2].split(",")[0].strip(): count
        for note, count in chosen.notes.items()
        if note.startswith("intermediate")
    }
    assert counted == {"not used alone": len(idle), "part of a character": len(partial)}


@pytest.mark.parametrize(("name", "language"), [("nemo", "hi"), ("pythia", "th"), ("llama2", "ta")])
def test_of_a_real_tokenizer_s_new_tokens_hardly_any_is_without_use(assets, name, language):
    """At most 1% of 1,000 tokens are unused in their text, and at most 1% are not valid UTF-8."""
    family = open_tokenizer(assets / "tokenizers" / name).family
    with gzip.open(assets / "text" / f"{language}.train.jsonl.gz", "rt", encoding="utf-8") as file:
        counts = family.units(json.loads(line)["text"] for line in islice(file, 40))
    chosen = ContinuedBPE().select(SelectionRequest(family, counts, 1000))
    model = model_of(family, chosen.surfaces)
    used = {
        i
        for encoding in model.encode_batch_fast(list(counts), add_special_tokens=False)
        for i in encoding.ids
    }
    assert sum(family.size + i not in used for i in range(1000)) <= 10
    assert sum(not is_valid_utf8(surface) for surface in chosen.surfaces) <= 10


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.text(ALPHABET, min_size=1, max_size=40), min_size=1, max_size=8))
def test_the_words_of_the_learner_end_as_the_extended_tokenizer_cuts_them(name, texts):
    """The words of the learner have in the end as many tokens as the tokenizer gives them."""
    family = FAMILIES[name]
    counts = family.units(texts)
    words = cut_words(family, counts)
    learner = BPELearner(words, allowed=family.allows, cut_alone=cut_by_base(family), minimum=1)
    surfaces = list(learner.run(30))
    costs = dict(enumerate(words.costs, words.virtual))
    held = sum(
        costs.get(symbol, 1) * weight
        for symbol, weight in zip(
            learner.index.symbol.tolist(), learner.index.weight.tolist(), strict=True
        )
        if symbol >= 0
    )
    after = model_of(family, surfaces)
    cut = sum(
        len(after.encode(unit, add_special_tokens=False).ids) * count
        for unit, count in counts.items()
    )
    assert held == cut


@pytest.mark.parametrize("name", FAMILIES)
def test_every_learned_token_is_reached_from_its_own_spelling(name):
    """The model alone turns the spelling of an added token into that token."""
    family = FAMILIES[name]
    texts = ["नमस्ते दुनिया यह एक छोटी कहानी है", "वह अपने भाई का लंबा पत्र पढ़ती है", "தமிழ் ஒரு மொழி"] * 3
    chosen = ContinuedBPE().select(SelectionRequest(family, family.units(texts), 60))
    model = model_of(family, chosen.surfaces)
    assert chosen.surfaces
    for i, surface in enumerate(chosen.surfaces):
        assert model.encode(family.piece_of(surface), add_special_tokens=False).ids == [
            family.size + i
        ]


@pytest.mark.parametrize("name", FAMILIES)
def test_protected_text_keeps_its_segmentation(name):
    """No added token is used in protected text, and the tokens that are left out are counted."""
    family = FAMILIES[name]
    english = ["the other weather", "mother and father", "other"]
    texts = ["bother mother the weather here", "brother the weather there"] * 4
    free = ContinuedBPE().select(SelectionRequest(family, family.units(texts), 20))
    kept = ContinuedBPE().select(
        SelectionRequest(family, family.units(texts), 20, frozenset(family.units(english)))
    )
    before, after, unprotected = (
        model_of(family, surfaces) for surfaces in ((), kept.surfaces, free.surfaces)
    )
    units = list(family.units(english))
    cut = lambda model: [model.encode(unit, add_special_tokens=False).ids for unit in units]  # noqa: E731
    assert cut(after) == cut(before)
    assert cut(unprotected) != cut(before)
    assert kept.notes["left out: it would change protected text"] > 0


def test_memory_for_a_text_of_distinct_words_is_bounded():
    """Indexing pairs takes at most 56 bytes for each symbol of the words, linked list included."""
    size, length = 40_000, 10
    symbols = np.random.default_rng(0).integers(1, 300, size * length).astype(np.int32)
    surfaces = [None, *(b"%d" % symbol for symbol in range(1, 300))]
    words = WordTable(
        symbols,
        np.arange(0, size * length + 1, length, dtype=np.int64),
        np.ones(size, dtype=np.int64),
        surfaces,
        300,
        (),
        size,
    )
    inert = np.array([not surface for surface in surfaces])
    tracemalloc.start()
    try:
        found = sum(count for _, _, count in PairIndex(words).index_pairs(inert))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == size * (length - 1)
    assert peak / len(symbols) < 56


def test_each_character_without_a_piece_is_a_candidate():
    """A token for it saves its bytes but one at each of its places."""
    characters, copies = 500, 6
    symbols = np.tile(np.arange(1, characters + 1, dtype=np.int32), copies)
    starts = np.arange(0, len(symbols) + 1, characters, dtype=np.int64)
    surfaces = [None, *(chr(0x4E00 + i).encode() for i in range(characters))]
    counts = np.ones(copies, dtype=np.int64)
    words = WordTable(symbols, starts, counts, surfaces, 1, (3,) * characters, copies)
    learner = BPELearner(words, allowed=lambda _: True, cut_alone=lambda surface: [surface])
    assert set(learner.candidates.saving.values()) == {2 * copies}
    assert list(learner.run(2)) == [surfaces[1], surfaces[2]]
    assert learner.learned.saved == [2 * copies] * 2
