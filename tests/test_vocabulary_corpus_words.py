"""Counting the words of a corpus: in parts, by several workers, with the counts of one pass."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from lingraft.corpus import Corpus
from lingraft.corpus.corpus import COUNTS, DocumentWriter
from lingraft.errors import StoreError
from lingraft.pretokenizer.named_pretokenizers import BY_NAME
from lingraft.tokenizer import family_of
from lingraft.tokenizer.unit_table import count_chunks, counter_of
from lingraft.vocabulary import corpus_words
from lingraft.vocabulary.corpus_words import count_words
from lingraft.workers import HERE, Workers
from tests.small_bases import BASES, byte_level

TEXTS = [
    "the cat sat on the mat",
    "the  cat\tand \nthe dog",
    " sat नि on",
    "</s> the </s>cat",
    "one line\nand another one ",
] * 8 + [f"word{number} the cat{number % 7}" for number in range(40)]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Write a corpus of 16 row groups, which is counted in 16 parts and more slices of chunks."""
    monkeypatch.setattr("lingraft.corpus.corpus.GROUP_DOCUMENTS", 5)
    monkeypatch.setattr(corpus_words, "PART_BYTES", 1)
    monkeypatch.setattr(corpus_words, "CHUNKS_PER_TASK", 10)
    sizes = {}
    for split, texts in (("train", TEXTS), ("heldout", TEXTS[:1])):
        with DocumentWriter(tmp_path / f"{split}.parquet") as writer:
            for text in texts:
                writer.write(text, len(text.encode()))
        sizes[split] = {"documents": len(texts), "characters": 0, "bytes": 0}
    (tmp_path / COUNTS).write_text(json.dumps({"language": "en", "splits": sizes}))
    return Corpus.open(tmp_path)


@pytest.mark.parametrize("name", BASES)
def test_the_counts_are_those_of_all_texts_at_once(name: str, corpus: Corpus) -> None:
    """Parts of a corpus together have the units and spellings of special tokens of its texts."""
    family = family_of(BASES[name](), "made here")
    counted = count_words(family, corpus, HERE)
    assert len(corpus.parts("train", corpus_words.PART_BYTES)) == 16
    assert counted.units == family.units(TEXTS)
    assert counted.mentions == family.special_text.count(TEXTS)
    assert (counted.distinct, counted.highest_left_out) == (len(counted.units), 0)
    assert counted.kept_share == 1


def test_who_counts_changes_nothing(corpus: Corpus) -> None:
    """Two processes count the same words as one."""
    family = family_of(BASES["byte-level BPE"](), "made here")
    assert count_words(family, corpus, Workers(2), 20) == count_words(family, corpus, HERE, 20)


def test_only_the_most_frequent_words_are_returned(corpus: Corpus) -> None:
    """With a limit, the rarer words are counted and left out."""
    family = family_of(BASES["byte-level BPE"](), "made here")
    everything = count_words(family, corpus, HERE).units
    counted = count_words(family, corpus, HERE, 3)
    assert counted.units == Counter(dict(everything.most_common(3)))
    assert counted.distinct == len(everything)
    assert counted.highest_left_out == sorted(everything.values())[-4]
    kept, all_of_it = (
        sum(len(family.surface_of(unit)) * count for unit, count in units.items())
        for units in (counted.units, everything)
    )
    assert counted.kept_share == kept / all_of_it < 1


def test_a_damaged_corpus_is_named(corpus: Corpus) -> None:
    """A part that cannot be read is an error on one line with the file's name."""
    path = corpus.folder / "train.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(StoreError) as caught:
        count_words(family_of(BASES["byte-level BPE"](), "made here"), corpus, HERE)
    assert str(caught.value).startswith(f"{path}: cannot be read")
    assert "\n" not in str(caught.value)


def test_units_of_several_words_are_counted_whole():
    """The expression of EXAONE-MoE puts several words into one unit: texts are not cut at words."""
    (expression,) = BY_NAME["exaone-moe"].expressions
    family = family_of(byte_level(pattern=expression), Path("base"))
    texts = ["the river is cold today. It was warm", "we walk, and 12 geese swim"]
    expected = Counter(unit for text in texts for unit in family.cut(text))
    assert any("Ġ" in unit[1:] for unit in expected)
    assert family.units(texts) == expected
    chunks = count_chunks(family, pa.chunked_array([texts]))
    assert counter_of(chunks.units) == expected
    assert not len(chunks.first)
