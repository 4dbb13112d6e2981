"""Merges of byte-level BPE: adding tokens, removing tokens, and vocab.json with merges.txt."""

from __future__ import annotations

import base64
import itertools
import json
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lingraft.errors import TokenizerError
from lingraft.tokenizer.byte_level_bpe import ByteLevel, byte_characters, splits
from lingraft.tokenizer.convert import (
    GPT2_REGEX,
    LLAMA3_REGEX,
    bpe_model,
    byte_level_parts,
    from_tiktoken,
    from_vocab_and_merges,
    special_token_template,
    tokenizer_data,
)
from lingraft.vocabulary.pruning import choose_leaves, count_usage

ALPHABET = "abc"
PAIRS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12)
WORDS = st.lists(st.text(ALPHABET, min_size=1, max_size=8), min_size=1, max_size=6)
relaxed = settings(max_examples=60, deadline=None)


def family_of(pairs) -> ByteLevel:
    """Return a byte-level BPE of all bytes, with merges of random earlier pieces."""
    characters = byte_characters()
    vocab = {character: byte for byte, character in enumerate(characters)}
    pieces, merges = list(ALPHABET), []
    for left, right in pairs:
        pair = [pieces[left % len(pieces)], pieces[right % len(pieces)]]
        if "".join(pair) not in vocab:
            vocab["".join(pair)] = len(vocab)
            pieces.append("".join(pair))
            merges.append(pair)
    return ByteLevel(tokenizer_data(bpe_model(vocab, merges), **byte_level_parts(GPT2_REGEX)))


@given(st.binary(max_size=20))
def test_every_surface_has_a_piece_and_comes_back(surface):
    """Each byte is one printable character, the same one everywhere."""
    family = family_of([])
    piece = family.piece_of(surface)
    assert len(piece) == len(surface)
    assert all(
        not character.isspace() and unicodedata.category(character)[0] != "C" for character in piece
    )
    assert family.surface_of(piece) == surface


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_a_piece_with_other_characters_stands_for_its_own_text(text):
    """A piece with a character that stands for no byte is plain text; others map to bytes."""
    family = family_of([])
    if set(text) <= set(byte_characters()):
        assert family.piece_of(family.surface_of(text)) == text
    else:
        assert family.surface_of(text) == text.encode()


def merged_by_hand(family: ByteLevel, word: str) -> list[int]:
    """Apply the merge of the lowest rank, leftmost first, until none applies."""
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(family.merges)))}
    pieces = list(word)
    while True:
        found = [
            (ranks[pair], i) for i, pair in enumerate(itertools.pairwise(pieces)) if pair in ranks
        ]
        if not found:
            return [family.pieces[piece] for piece in pieces]
        _, i = min(found)
        pieces[i : i + 2] = ["".join(pieces[i : i + 2])]


@relaxed
@given(PAIRS, WORDS)
def test_units_are_segmented_by_the_lowest_merge_first(pairs, words):
    """The library's segmentation is that of a plain loop over the table."""
    family = family_of(pairs)
    assert family.segment(words) == [merged_by_hand(family, word) for word in words]


@relaxed
@given(PAIRS, st.lists(st.text(ALPHABET, min_size=2, max_size=5), max_size=4, unique=True), WORDS)
def test_an_added_token_is_produced_from_any_two_tokens_that_spell_it(pairs, surfaces, words):
    """The merges of all splits are added after those of the base, and ids go on from its size."""
    family = family_of(pairs)
    new = [surface for surface in surfaces if surface not in family.pieces]
    extended = ByteLevel(family.with_tokens([surface.encode() for surface in new]))
    assert extended.merges[: len(family.merges)] == family.merges
    assert [extended.pieces[surface] for surface in new] == list(
        range(family.size, family.size + len(new))
    )
    known = {*family.pieces, *new}
    assert set(extended.merges[len(family.merges) :]) == {
        pair for surface in new for pair in splits(surface, known)
    }
    for before, after in zip(family.segment(words), extended.segment(words), strict=True):
        assert len(after) <= len(before)


@relaxed
@given(PAIRS, WORDS)
def test_tokens_are_taken_out_with_their_merges(pairs, words):
    """No merge produces or uses a removed token, other ids stay, and text is still spelled."""
    family = family_of(pairs)
    gone = [token_id for token_id in range(256, family.size) if token_id % 2]
    pruned = ByteLevel(family.without_tokens(gone))
    names = {piece for piece, token_id in family.pieces.items() if token_id in gone}
    assert pruned.pieces == {p: i for p, i in family.pieces.items() if p not in names}
    assert not any({left, right, left + right} & names for left, right in pruned.merges)
    surfaces = pruned.vocabulary.surfaces
    for word, ids in zip(words, pruned.segment(words), strict=True):
        assert b"".join(surfaces[token_id] for token_id in ids) == word.encode()


@relaxed
@given(PAIRS, WORDS, st.integers(0, 12))
def test_pruned_tokens_are_leaves_and_the_rest_is_cut_as_before(pairs, words, count):
    """A word whose tokens stay is segmented as before; no token that others need is removed."""
    family = family_of(pairs)
    usage = count_usage(family, Counter(words))
    assert sum(usage.values()) == sum(len(ids) for ids in family.segment(words))
    taken = choose_leaves(family, usage, count)
    assert len(taken) == len(set(taken)) <= count
    assert all(token_id >= 256 for token_id in taken)
    pruned = ByteLevel(family.without_tokens(taken))
    for left, right in family.merges:
        if family.pieces[left + right] not in taken:
            assert not {family.pieces[left], family.pieces[right]} & set(taken)
    for before, after in zip(family.segment(words), pruned.segment(words), strict=True):
        if not set(before) & set(taken):
            assert before == after


@relaxed
@given(PAIRS, WORDS)
def test_the_first_token_to_go_is_the_least_used_leaf_and_kept_ids_stay(pairs, words):
    """Of equally used leaves the one that was merged last goes first; ids that are named stay."""
    family = family_of(pairs)
    usage = count_usage(family, Counter(words))
    parts = {part for pair in family.merges for part in pair}
    leaves = [
        family.pieces[left + right] for left, right in family.merges if left + right not in parts
    ]
    taken = choose_leaves(family, usage, 1)
    # The last merge of the table produces the highest id.
    assert taken == sorted(leaves, key=lambda token_id: (usage[token_id], -token_id))[:1]
    assert choose_leaves(family, usage, 99, keep=range(family.size)) == []


def test_runs_of_white_space_are_never_taken_out():
    """Runs of spaces stay, however little used they are: they indent code in every language."""
    vocab = {character: byte for byte, character in enumerate(byte_characters())}
    # The last two make U+3000, which indents Chinese text, and a run of it.
    merges = [["Ġ", "a"], ["Ġ", "Ġ"], ["ĠĠ", "ĠĠ"], ["ĠĠ", "Ċ"], ["ã", "Ģ"], ["ãĢ", "Ģ"]]
    merges.append(["ãĢĢ", "ãĢĢ"])
    vocab |= {"".join(pair): number for number, pair in enumerate(merges, 256)}
    data = tokenizer_data(bpe_model(vocab, merges), **byte_level_parts(GPT2_REGEX))
    assert choose_leaves(ByteLevel(data), Counter({256: 9}), 99) == [256]


@relaxed
@given(PAIRS, st.booleans())
def test_vocab_and_merges_are_read_as_the_tokenizer_that_wrote_them(
    tmp_path_factory, pairs, special
):
    """vocab.json and merges.txt give the vocabulary, the merges and a special end token."""
    folder, family = tmp_path_factory.mktemp("gpt2"), family_of(pairs)
    vocab = {**family.pieces, **({"<|endoftext|>": family.size} if special else {})}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in family.merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    data = from_vocab_and_merges(folder / "vocab.json")
    roles = data.pop("lingraft_roles", {})
    read = ByteLevel(data)
    assert (read.pieces, read.merges) == (vocab, family.merges)
    assert read.special == ({family.size: "<|endoftext|>"} if special else {})
    assert set(roles.values()) == ({"<|endoftext|>"} if special else set())
    assert Tokenizer.from_str(json.dumps(data)).get_vocab_size() == len(vocab)


def test_a_vocabulary_without_merges_beside_it_is_refused(tmp_path):
    """The message names the file that is expected next to it."""
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"expected vocab\.json and merges\.txt"):
        from_vocab_and_merges(tmp_path / "vocab.json")


@pytest.mark.parametrize("line", ["YQ==", "YQ== x", "YQ== 1 2", "%%% 1", "é 3"])
def test_a_line_that_is_no_rank_is_placed(tmp_path, line):
    """Number and form of the line are told."""
    path = tmp_path / "x.tiktoken"
    good = base64.b64encode(b"a").decode() + " 0"
    path.write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match="line 2: not a tiktoken line"):
        from_tiktoken(path)


def test_ranks_of_an_unknown_model_are_refused(tmp_path):
    """The file holds no regular expression; for two models it is known by the number of ranks."""
    path = tmp_path / "x.tiktoken"
    path.write_text(base64.b64encode(b"a").decode() + " 0\n")
    with pytest.raises(TokenizerError, match="1 tiktoken ranks; the regex is known for"):
        from_tiktoken(path)
    assert LLAMA3_REGEX != GPT2_REGEX


@pytest.mark.parametrize(
    ("before", "after"),
    [(("<s>", 1), None), (None, ("</s>", 2)), (("<s>", 1), ("</s>", 2)), (None, None)],
)
def test_a_template_puts_special_tokens_around_every_text(before, after):
    """One text and a pair of texts, with the token before, after, on both sides, or without any."""
    processor = special_token_template(before=before, after=after)
    vocab = {"a": 0, "<s>": 1, "</s>": 2}
    backend = Tokenizer.from_str(
        json.dumps(tokenizer_data(bpe_model(vocab, []), post_processor=processor))
    )
    around = [[token[1]] if token else [] for token in (before, after)]
    expected = [*around[0], 0, *around[1]]
    assert backend.encode("a").ids == expected
    assert backend.encode("a", "a").ids == expected * 2
