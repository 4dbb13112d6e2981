"""The hash numbers of split and order, and the counts of kept and dropped documents."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus.cleaning import Cleaner, Reason, Tally, document_digest, sum_drops
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.splits import (
    BUCKETS,
    HASH_RANGE,
    DocumentHashes,
    Shuffle,
    ShuffledDocument,
    SplitTable,
)
from lingraft.errors import CorpusError

NUMBERS = st.integers(0, HASH_RANGE - 1)
DOCUMENTS = st.lists(
    st.tuples(NUMBERS, NUMBERS, st.integers(1, 1000)),
    min_size=2,
    max_size=30,
    unique_by=(lambda one: one[0], lambda one: one[1]),
)
relaxed = settings(max_examples=60, deadline=None)


def table_of(documents, sources=(0,)) -> SplitTable:
    """Return a table of documents (split, select, size), which take turns among the sources."""
    table = SplitTable()
    for number, (split, select, size) in enumerate(documents):
        hashes = DocumentHashes(split, select, 0)
        table.add(sources[number % len(sources)], hashes, size)
    return table


@relaxed
@given(st.binary(min_size=16, max_size=16), st.integers(0, 9), st.integers(0, 9))
def test_the_split_depends_on_content_and_the_order_on_the_seed(digest, seed, other):
    """Two seeds hold out the same documents of a text; equal seeds also order them the same."""
    first, second = DocumentHashes.of(digest, seed), DocumentHashes.of(digest, other)
    assert first.split == second.split
    assert (first == second) == (seed == other)
    assert all(0 <= number < HASH_RANGE for number in (first.split, first.select, first.order))


def test_the_three_numbers_are_uniform_and_independent():
    """Of 4,000 documents, each number's quarters and each pair's quadrants hold about as many."""
    digests = [hashlib.blake2b(str(i).encode(), digest_size=16).digest() for i in range(4000)]
    hashes = [DocumentHashes.of(digest, 3) for digest in digests]
    names = ("split", "select", "order")
    for name in names:
        quarters = Counter(getattr(one, name) * 4 // HASH_RANGE for one in hashes)
        assert min(quarters.values()) > 900
    for first, second in (names[:2], names[1:], names[::2]):
        quadrants = Counter(
            (getattr(one, first) * 2 // HASH_RANGE, getattr(one, second) * 2 // HASH_RANGE)
            for one in hashes
        )
        assert len(quadrants) == 4
        assert min(quadrants.values()) > 900


@relaxed
@given(DOCUMENTS, st.floats(0.001, 0.9))
def test_the_held_out_documents_are_the_lowest_and_never_all(documents, share):
    """The documents below the threshold are the share: at least one, and never all."""
    threshold = table_of(documents).heldout_threshold(share, None)
    heldout = [split for split, _, _ in documents if split < threshold]
    in_share = sum(split < int(share * HASH_RANGE) for split, _, _ in documents)
    assert len(heldout) == min(max(1, in_share), len(documents) - 1)


@relaxed
@given(DOCUMENTS, st.floats(0.001, 0.9), st.integers(1, 3000))
def test_a_bound_on_the_held_out_bytes_only_lowers_the_threshold(documents, share, most):
    """The bytes below it are within the bound; a bound below the first document is refused."""
    table = table_of(documents)
    first = min(documents)
    if first[2] > most:
        with pytest.raises(CorpusError, match=rf"first held-out document \({first[2]} bytes\)"):
            table.heldout_threshold(share, most)
        return
    threshold = table.heldout_threshold(share, most)
    assert threshold <= table.heldout_threshold(share, None)
    assert sum(size for split, _, size in documents if split < threshold) <= most


def test_a_bound_that_is_met_exactly_is_kept():
    """Documents of just so many bytes are held out; one byte less is one document less."""
    documents = [(1, 0, 10), (2, 1, 20), (3, 2, 30), (HASH_RANGE - 1, 3, 40)]
    table = table_of(documents)
    assert [table.heldout_threshold(0.5, most) for most in (60, 59, 30, 29, 10)] == [
        HASH_RANGE - 1, 3, 3, 2, 2
    ]  # fmt: skip


@relaxed
@given(DOCUMENTS, st.lists(st.floats(0.1, 10), min_size=2, max_size=3))
def test_weighted_sources_have_their_shares_to_within_a_document(documents, weights):
    """The source that runs out first sets the size, and no source gives more than its part."""
    count = len(weights)
    if len(documents) < count:
        return
    sources = tuple(range(count))
    thresholds = table_of(documents, sources).train_thresholds(weights, 0)
    usable, used, largest = ([0] * count for _ in range(3))
    for number, (_, select, size) in enumerate(documents):
        source = number % count
        usable[source] += size
        used[source] += size if select < thresholds[source] else 0
        largest[source] = max(largest[source], size)
    total = min(usable[i] * sum(weights) / weights[i] for i in sources)
    for source, weight in enumerate(weights):
        wanted = total * weight / sum(weights)
        assert wanted - largest[source] <= used[source] <= wanted * (1 + 1e-9)


@relaxed
@given(st.lists(st.tuples(NUMBERS, st.integers(0, 5), st.binary(max_size=40)), max_size=60))
def test_a_shuffle_gives_every_document_once_in_order(tmp_path_factory, documents):
    """What comes out is what went in, by order number, and the files are gone."""
    folder = tmp_path_factory.mktemp("shuffle")
    put = [
        ShuffledDocument(order, source, 0, bytes(16), content)
        for order, source, content in documents
    ]
    with Shuffle(folder) as shuffle:
        for document in put:
            shuffle.put(document)
    assert len(list(folder.iterdir())) == BUCKETS
    assert list(shuffle.documents()) == sorted(put)
    assert list(folder.iterdir()) == []


TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=25)


@relaxed
@given(TEXTS, st.integers(1, 4), st.integers(4, 8))
def test_each_document_has_one_reason_and_a_kept_text_is_unique(texts, least, most):
    """Empty comes before too short, that before too long, and these before duplicate."""
    cleaner = Cleaner(
        CorpusSettings(sources="x.txt", min_characters=least, max_characters=most), in_language=None
    )
    kept = []
    for text in texts:
        reason, digest = cleaner.filter(text)
        bare = text.strip()
        if not bare:
            assert (reason, digest) == (Reason.empty, b"")
        elif len(bare) < least:
            assert (reason, digest) == (Reason.short, b"")
        elif len(bare) > most:
            assert (reason, digest) == (Reason.long, b"")
        else:
            assert digest == document_digest(text)
            assert reason == (Reason.duplicate if digest in kept else None)
            kept.append(digest)
    assert cleaner.seen == set(kept)


def test_held_out_comes_before_duplicate_and_language_last():
    """A held-out text is not stored as seen; the copy of a wrong-language text is a duplicate."""
    settings_of = CorpusSettings(sources="x.txt", min_characters=1)
    heldout = {document_digest("held out")}
    cleaner = Cleaner(settings_of, in_language=lambda text: text != "fremd", heldout=heldout)
    assert [cleaner.filter("held out")[0] for _ in range(2)] == [Reason.heldout] * 2
    assert [cleaner.filter("fremd")[0] for _ in range(2)] == [Reason.language, Reason.duplicate]
    assert [cleaner.filter("ours")[0] for _ in range(2)] == [None, Reason.duplicate]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["train", "heldout", Reason.empty, Reason.share]), st.integers(0, 99)
    ),
    max_size=40,
)


@given(EVENTS, EVENTS)
def test_counts_add_up(first, second):
    """Read is kept plus dropped; drops of two sources are added, most frequent first."""
    tallies = []
    for label, events in (("a", first), ("b", second)):
        tally = Tally(label)
        for what, size in events:
            tally.count(size)
            (tally.keep if what in {"train", "heldout"} else tally.drop)(what, size)
        tallies.append(tally)
        told = tally.report()
        parts = [*told["kept"].values(), *told["dropped"].values()]
        for unit in ("documents", "bytes"):
            assert told["read"][unit] == sum(part[unit] for part in parts)
    drops = sum_drops(tallies)
    counts = [cell["documents"] for cell in drops.values()]
    assert counts == sorted(counts, reverse=True)
    expected = Counter(what for what, _ in [*first, *second] if what not in {"train", "heldout"})
    assert {reason: cell["documents"] for reason, cell in drops.items()} == expected
