"""Weights of the pieces of a token, and the means of rows made with them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.checkpoint.table_rows import majority_rows, mean_rows
from lingraft.embeddings.subtoken_mean import (
    MergeTree,
    character_shares,
    character_weights,
    first_weights,
    last_weights,
    position_weights,
    target_ids,
    uniform_weights,
    weighted_means,
)
from lingraft.errors import ModelError
from lingraft.splice import AddedToken, Vocabulary
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.unigram import Unigram

PIECES = st.lists(st.integers(0, 7), min_size=1, max_size=6)
TEXTS = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), min_size=1, max_size=5
)
relaxed = settings(max_examples=60, deadline=None)


def token_of(pieces, surface: bytes = b"x") -> AddedToken:
    """Return a token with these pieces."""
    return AddedToken(99, surface, tuple(pieces))


@given(PIECES)
def test_simple_weights_are_positive_where_they_should_be(pieces):
    """Each way gives one weight for each piece, and something to divide by."""
    token = token_of(pieces)
    assert uniform_weights(token) == (1.0,) * len(pieces)
    assert first_weights(token) == (1.0, *[0.0] * (len(pieces) - 1))
    assert last_weights(token) == (*[0.0] * (len(pieces) - 1), 1.0)
    assert position_weights(token) == tuple(1 / i for i in range(1, len(pieces) + 1))


@relaxed
@given(TEXTS)
def test_pieces_that_are_text_weigh_their_characters(texts):
    """A piece of three characters weighs 3 in any script, however many bytes these take."""
    vocabulary = Vocabulary(tuple(text.encode() for text in texts))
    token = token_of(range(len(texts)), "".join(texts).encode())
    assert character_weights(token, vocabulary) == pytest.approx([len(text) for text in texts])


@relaxed
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), st.data())
def test_bytes_of_a_character_share_its_weight(text, data):
    """However a text is cut between its bytes, the weights add up to its characters."""
    surface = text.encode()
    cuts = data.draw(st.sets(st.integers(1, max(1, len(surface) - 1))))
    ends = [0, *sorted(cut for cut in cuts if cut < len(surface)), len(surface)]
    parts = tuple(surface[begin:end] for begin, end in itertools.pairwise(ends))
    weights = character_weights(token_of(range(len(parts)), surface), Vocabulary(parts))
    assert sum(weights) == pytest.approx(len(text))
    assert all(weight > 0 for weight in weights)


@given(st.binary(max_size=30))
def test_every_byte_has_a_share(surface):
    """Bytes that are no UTF-8 count as a quarter of a character."""
    shares = character_shares(surface)
    assert len(shares) == len(surface)
    assert set(shares) <= {1.0, 1 / 2, 1 / 3, 1 / 4}
    assert all(share == 1.0 for share, byte in zip(shares, surface, strict=True) if byte < 128)


def test_a_byte_that_is_no_utf_8_is_a_quarter_of_a_character():
    """As the bytes of the longest characters are; those of a whole character share it."""
    assert character_shares(b"a\xff\xc3\xa9\xe0\xa4") == [1.0, 0.25, 0.5, 0.5, 0.25, 0.25]


@given(PIECES, st.binary(min_size=1, max_size=3))
def test_pieces_that_do_not_spell_the_token_weigh_their_bytes(pieces, surface):
    """Where a normaliser changed the surface, the sizes of the pieces are what is left to go by."""
    vocabulary = Vocabulary(tuple(b"a" * size for size in range(8)))
    sizes = [max(1, piece) for piece in pieces]
    if sum(pieces) == len(surface) and all(pieces):
        return
    assert character_weights(token_of(pieces, surface), vocabulary) == tuple(map(float, sizes))


def tree_of(*merges: tuple[int, int, int]) -> MergeTree:
    """Return a tree of merges (left, right, merged) in the order of their ranks."""
    return MergeTree(
        {(left, right): (rank, made) for rank, (left, right, made) in enumerate(merges)}
    )


def test_a_piece_at_depth_d_weighs_half_to_the_d():
    """((0 1) 2) with merges 0 1 -> 10 and 10 2 -> 99: a quarter, a quarter, a half."""
    tree = tree_of((0, 1, 10), (10, 2, 99))
    numbers = {0: 0, 1: 1, 2: 2}
    assert tree.weights(token_of([0, 1, 2]), numbers) == ((0.25, 0.25, 0.5), True)
    other = tree_of((1, 2, 10), (0, 10, 99))
    assert other.weights(token_of([0, 1, 2]), numbers) == ((0.5, 0.25, 0.25), True)


def test_where_merges_stop_early_the_tokens_that_were_reached_count_alike():
    """The fallback is told, so that the notes of a run can count it."""
    weights, whole = tree_of((0, 1, 10)).weights(token_of([0, 1, 2]), {0: 0, 1: 1, 2: 2})
    assert (weights, whole) == ((0.25, 0.25, 0.5), False)
    assert tree_of().weights(token_of([3, 4]), {3: 3, 4: 4}) == ((0.5, 0.5), False)


@relaxed
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=7),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), unique=True, max_size=12),
)
def test_weights_of_a_merge_tree_are_a_share_of_one(pieces, pairs):
    """Whatever the merges are, the weights add up to 1 and no piece is left out."""
    tree = tree_of(*((left, right, 4 + number % 3) for number, (left, right) in enumerate(pairs)))
    weights, _ = tree.weights(token_of(pieces), {piece: piece for piece in range(4)})
    assert sum(map(Fraction, weights)) == pytest.approx(1)
    assert all(weight > 0 for weight in weights)


def test_a_tree_is_read_from_both_forms_of_merges(tmp_path):
    """Pairs and strings are the same merges; a tokenizer without merges is refused."""
    vocab = {"a": 0, "b": 1, "ab": 2}
    trees = []
    for merges in ([["a", "b"]], ["a b"]):
        data = {"model": {"type": "BPE", "vocab": vocab, "merges": merges}}
        tokenizer = ModelTokenizer(tmp_path, ByteLevel(data, tmp_path), {})
        trees.append(MergeTree.of(tokenizer).ranks)
    assert trees == [{(0, 1): (0, 2)}] * 2
    data = {"model": {"type": "Unigram", "vocab": []}}
    with pytest.raises(ModelError, match="a Unigram tokenizer has no merges"):
        MergeTree.of(ModelTokenizer(tmp_path, Unigram(data, tmp_path), {}))


def test_only_pieces_of_added_tokens_are_numbered():
    """A source id that moved has its target number; those that no token needs are left out."""
    tokens = [token_of([5, 6]), token_of([6])]
    assert target_ids({0: 5, 1: 6, 2: 7}, tokens) == {5: 0, 6: 1}


MATRIX = st.lists(
    st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=8, max_size=8
)


@relaxed
@given(
    MATRIX,
    st.lists(
        st.lists(st.tuples(st.integers(0, 7), st.floats(0.1, 9)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    ),
)
def test_weighted_means_are_those_of_a_plain_loop(matrix, groups):
    """Each row is the weighted mean over the pieces; a repeated piece counts each time."""
    table = torch.tensor(matrix)
    pieces = [[piece for piece, _ in group] for group in groups]
    weights = [[weight for _, weight in group] for group in groups]
    expected = []
    for group in groups:
        total = sum(weight for _, weight in group)
        expected.append(
            [sum(weight * matrix[piece][d] for piece, weight in group) / total for d in range(3)]
        )
    found = weighted_means(table, pieces, weights)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-4)


@relaxed
@given(MATRIX, PIECES)
def test_equal_pieces_give_their_row_to_the_bit(matrix, pieces):
    """The mean of copies of one row is that row, with any weights, in any kind of number."""
    for dtype in (torch.float32, torch.bfloat16):
        table = torch.tensor(matrix).to(dtype)
        same = [pieces[0]] * len(pieces)
        mean = weighted_means(table, [same], [uniform_weights(token_of(same))])
        assert torch.equal(mean[0].to(dtype), table[pieces[0]])
        assert torch.equal(mean_rows(table, [token_of(same)])[0].to(dtype), table[pieces[0]])


@relaxed
@given(
    st.lists(st.permutations(range(6)).map(lambda order: order[:2]), min_size=8, max_size=8), PIECES
)
def test_a_route_is_to_distinct_experts_that_the_pieces_know(table, pieces):
    """A new token's experts are those of its pieces, with at least the votes of any left out."""
    matrix = torch.tensor(table)
    (found,) = majority_rows(matrix, [token_of(pieces)]).tolist()
    votes = [expert for piece in pieces for expert in table[piece]]
    assert len(set(found)) == 2
    assert set(found) <= set(votes)
    least = min(votes.count(expert) for expert in found)
    assert all(votes.count(expert) <= least for expert in set(votes) - set(found))


def test_a_piece_beyond_a_shorter_table_reads_row_0():
    """As the model does: Gemma 3n's per-layer table has fewer rows than the vocabulary."""
    table = torch.tensor([[1.0], [3.0]])
    assert mean_rows(table, [token_of([1, 7])]).tolist() == [[2.0]]
