"""Several target languages: the share of each in the counts that tokens are learned from."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.tokenizer.unit_table import counter_of, most_frequent
from lingraft.vocabulary.language_shares import compute_shares, mix_counts

SIZES = st.lists(st.integers(1_000, 1_000_000), min_size=2, max_size=4)


@given(SIZES, st.floats(1, 5))
def test_each_language_has_its_share_of_the_counts(sizes, temperature):
    """A language whose text is one unit, repeated for each byte, has its share to within 0.1%."""
    counts = [Counter({f"language {number}": size}) for number, size in enumerate(sizes)]
    mixture = mix_counts(counts, sizes, temperature)
    total = sum(mixture.values())
    for number, share in enumerate(compute_shares(sizes, temperature)):
        assert mixture[f"language {number}"] / total == pytest.approx(share, rel=1e-3)


def test_at_a_temperature_of_one_counts_are_added_as_they_are():
    """At a temperature of 1 the counts of each unit are added up in proportion."""
    mixture = mix_counts([Counter(a=100, b=50), Counter(a=10, c=5)], [1000, 100], 1.0)
    assert {unit: count / mixture["c"] for unit, count in mixture.items()} == {
        "a": 22,
        "b": 10,
        "c": 1,
    }


def test_a_weight_counts_as_more_text():
    """A tenth of the text at ten times the weight counts as much as the other language."""
    mixture = mix_counts([Counter(a=100), Counter(b=10)], [1000, 100], 1.0, [1.0, 10.0])
    assert mixture["a"] == mixture["b"]


def test_a_unit_seen_once_does_not_vanish():
    """Each unit is counted at least once, even if its language has a tiny weight."""
    assert mix_counts([Counter(a=10**6), Counter(b=1)], [10**6, 10**6], 1.0, [1.0, 1e-9])["b"] == 1


@given(
    st.dictionaries(st.text(max_size=3), st.integers(1, 5), max_size=20),
    st.integers(1, 12),
    st.randoms(),
)
def test_of_too_many_words_the_most_frequent_stay(counts, limit, chance):
    """The most frequent words are kept up to the limit, independent of the order of counting."""
    items = list(counts.items())
    chance.shuffle(items)
    words = [word for word, _ in items]
    table = pa.table(
        {
            "unit": pa.array(words, pa.large_string()),
            "count": pa.array(list(map(counts.get, words)), pa.int64()),
        }
    )
    kept, least = most_frequent(table, limit)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    assert counter_of(kept) == {word: counts[word] for word in ranked[:limit]}
    assert least == max((counts[word] for word in ranked[limit:]), default=0)
