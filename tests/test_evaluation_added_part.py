"""How the added part of a vocabulary is used: whole words, even use, chances to write a token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lingraft.checkpoint import load_model
from lingraft.corpus.readers import read_parallel
from lingraft.evaluation.added_token_choice import count_preferred, count_written, first_pieces
from lingraft.evaluation.bits_per_byte import start_id
from lingraft.evaluation.samples import GeneratedSample
from lingraft.evaluation.token_distribution import renyi_efficiency
from lingraft.evaluation.words_kept_whole import (
    TextWords,
    TokenPlaces,
    WordCounter,
    frequent_words_kept,
)
from lingraft.text_units import TextUnit
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from tests.conftest import ENGLISH, HINDI
from tests.models import ARCHITECTURES, extended_tokenizer
from tests.small_bases import sentencepiece

ADDED = (" The", " In", " red", " small", " river", " walk", " letter", " long")
"""Words that the source writes with two tokens, so that one merge adds each."""
DOCUMENTS = [*HINDI, *ENGLISH, ""]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ARCHITECTURES["llama"].build(tmp_path_factory.mktemp("added") / "model")


@pytest.fixture(scope="module")
def extended(source: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    folder = tmp_path_factory.mktemp("extended")
    extended_tokenizer(source, folder, ADDED)
    return open_tokenizer(folder)


@pytest.mark.parametrize("name", ["gpt2", "llama2", "t5"])
def test_words_kept_whole_are_those_of_the_librarys_offsets(assets: Path, name: str) -> None:
    """A word is whole if no offset of the library ends inside it, in every family."""
    tokenizer = open_tokenizer(assets / "tokenizers" / name)
    columns = read_parallel(str(assets / "parallel" / "flores200-devtest.jsonl.gz"), ["tr"])
    # Letters and spaces only, so that words are what `split` finds.
    texts = [" ".join("".join(filter(_is_plain, text)).split()) for text in columns["tr"][:60]]
    expected = 0
    for text, encoding in zip(texts, tokenizer.family.encodings(texts), strict=True):
        pairs = zip(encoding.tokens, encoding.offsets, strict=True)
        # The library gives the space that SentencePiece adds the offset of the first letter.
        ends = {end for token, (_, end) in pairs if token != "▁"}
        position = 0
        for word in text.split():
            start = text.index(word, position)
            position = start + len(word)
            expected += ends.isdisjoint(range(start + 1, position))
    words = TextWords.of(texts, TextUnit.WORD)
    count = WordCounter(TokenPlaces.of(tokenizer), TextUnit.WORD).count
    whole, of = np.array(list(map(count, words.spans, tokenizer.encode(texts)))).sum(axis=0)
    assert (whole, of) == (expected, words.units)
    assert 0.1 < expected / words.units < 0.9


@pytest.mark.parametrize(
    ("text", "kept", "of"), [("ﷺ ﷺ", 8, 8), ("قال النبي ﷺ", 6, 6), ("قال 💁ꦏ", 1, 2)]
)
def test_words_that_a_normalizer_multiplies_are_all_counted(
    assets: Path, text: str, kept: int, of: int
) -> None:
    """NFKC writes ﷺ as four words: at most all of the words that were looked at are whole."""
    tokenizer = open_tokenizer(assets / "tokenizers" / "focus-ar")
    words = TextWords.of([text], TextUnit.WORD)
    counter = WordCounter(TokenPlaces.of(tokenizer), TextUnit.WORD)
    assert counter.count(words.spans[0], tokenizer.encode([text])[0]) == (kept, of)


def test_a_word_that_an_unknown_token_loses_is_not_kept(tmp_path: Path) -> None:
    """One "<unk>" for a word is one token, and no word."""
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁", -2.0], ["▁ab", -3.0]]}
    model["vocab"] += [[letter, -4.0] for letter in "abc"]
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    data = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": space}
    data |= {"post_processor": None, "decoder": space, "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    tokenizer = open_tokenizer(tmp_path)
    assert frequent_words_kept(tokenizer, ["ab", "abc", "नदी"]) == pytest.approx(1 / 3)
    del model["vocab"][1]  # then "▁" is unknown as well, and one token stands for both
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    tokenizer = open_tokenizer(tmp_path / "other")
    assert frequent_words_kept(tokenizer, ["ab", "abc", "नदी"]) == pytest.approx(1 / 3)


def _is_plain(character: str) -> bool:
    return character.isalpha() or character == " "


def test_characters_kept_whole_are_not_torn() -> None:
    """A character is whole unless a token ends inside it; unknown characters are not kept."""
    words = TextWords.of(["กขA"], TextUnit.CHARACTER)
    assert (words.spans[0].starts.tolist(), words.spans[0].ends.tolist()) == ([0, 3, 6], [3, 6, 7])
    assert list(words.frequent) == []


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("pick @@ed pick @@l @@ed pick @@les", 0.8265064834225245),
        ("pick @@e @@d pick @@l @@e @@d pick @@l @@e @@s", 0.9204840242168808),
    ],
)
def test_renyi_efficiency_is_that_of_its_authors(tokens: str, expected: float) -> None:
    """The values are those of the tests of tokenization-scorer, the package of the paper."""
    _, counts = np.unique(tokens.split(), return_counts=True)
    assert renyi_efficiency(counts) == pytest.approx(expected, abs=1e-12)
    assert renyi_efficiency(counts[:1]) is None


def test_preferred_tokens_have_higher_logits_than_their_first_piece(
    source: Path, extended: ModelTokenizer, tmp_path: Path
) -> None:
    """The counts are those of the whole model's logits, document by document."""
    before = open_tokenizer(source)
    model = load_model(ARCHITECTURES["llama"].build_with(352, tmp_path / "model"))
    added = {extended.vocabulary.ids[text.encode()] for text in ADDED}
    pieces = first_pieces(before, extended, added)
    for token, piece in pieces.items():
        text = (extended.vocabulary.surfaces[token] or b"").decode()
        assert piece == before.encode([text])[0][0]
    documents = [np.array(ids) for ids in extended.encode(DOCUMENTS)]
    chances = count_preferred(model, extended, documents, pieces, context=64)
    for number, ids in enumerate(documents):
        taken = places = 0
        with torch.no_grad():
            logits = model(torch.tensor([[start_id(extended), *ids[:64].tolist()]])).logits[0]
        for position, token in enumerate(ids[:64].tolist()):
            if token in pieces:
                places += 1
                taken += bool(logits[position, token] > logits[position, pieces[token]])
        assert (chances.taken[number], chances.places[number]) == (taken, places)
    assert 0 < chances.taken.sum() < chances.places.sum()


def test_tokens_that_the_source_cannot_spell_have_no_first_piece(assets: Path) -> None:
    """Parts of characters are no text: SentencePiece has no pieces for them, and they are left out.

    Each other token of GPT-2 begins with the piece that Llama 2 begins its text with.
    """
    before, after = (open_tokenizer(assets / "tokenizers" / name) for name in ("llama2", "gpt2"))
    surfaces = after.vocabulary.surfaces
    pieces = first_pieces(before, after, range(after.size))
    assert len(pieces) > 10_000
    for token, piece in pieces.items():
        assert (surfaces[token] or b"").decode()  # raises for a part of a character
        assert (surfaces[token] or b"").startswith(surfaces[piece] or b"-")


def test_the_first_piece_is_one_that_the_source_writes(tmp_path: Path) -> None:
    """The space before a word is the piece of a space, not the fallback byte of one."""
    for name in ("source", "extended"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "tokenizer.json").write_text(json.dumps(sentencepiece()), "utf-8")
    before = open_tokenizer(tmp_path / "source")
    data = before.family.with_tokens([" नदी".encode()])
    (tmp_path / "extended" / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    after = open_tokenizer(tmp_path / "extended")
    assert first_pieces(before, after, [before.size]) == {before.size: before.family.pieces["▁"]}


def test_written_tokens_are_those_that_stand_where_the_tokenizer_writes_them(
    source: Path, extended: ModelTokenizer
) -> None:
    """A text written by pieces takes no chance; tokens of the prompt are none of its chances."""
    added = frozenset(extended.vocabulary.ids[text.encode()] for text in ADDED)
    prompt, text = "The red", " small red river"
    by_tokens, by_pieces = extended.encode([text])[0], open_tokenizer(source).encode([text])[0]
    half = [*extended.encode([" small"])[0], *open_tokenizer(source).encode([" red river"])[0]]
    broken = [*by_tokens, extended.vocabulary.ids[b"\xe0"]]
    samples = [
        GeneratedSample(prompt, text, tuple(ids)) for ids in (by_tokens, by_pieces, half, broken)
    ]
    chances = count_written(samples, extended, added)
    assert chances.places.tolist() == [3, 3, 3, 3]
    assert chances.taken.tolist() == [3, 0, 1, 3]
