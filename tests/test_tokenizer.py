"""Families: what a tokenizer file says is read, kept and extended."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.errors import TokenizerError
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.json_format import compact_ids
from lingraft.tokenizer.unit_table import (
    count_chunks,
    counter_of,
    cut_first,
    cut_rest,
    sum_tables,
)
from tests.small_bases import BASES, byte_level

REAL = {
    "llama2": (32000, 1, 2),
    "mistral": (32000, 1, 2),
    "llama3": (128256, 128000, 128001),
    "qwen2": (151646, None, None),
    "pythia": (50277, None, None),
    "gpt2": (50257, 50256, 50256),
    "nemo": (131072, None, None),
    "t5": (32000, None, 1),
    "focus-ar": (50000, None, None),
}
FERTILITY = {
    "llama2": (1.42, 5.55, 3.70, 5.41, 10.87),
    "mistral": (1.37, 5.32, 3.78, 5.30, 10.45),
    "llama3": (1.24, 2.67, 2.16, 2.29, 12.38),
    "qwen2": (1.26, 4.76, 2.55, 2.29, 10.06),
    "pythia": (1.25, 5.05, 3.43, 4.16, 12.74),
    "gpt2": (1.23, 7.83, 3.75, 6.00, 25.04),
}


@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_are_read_with_their_size_and_special_ids(assets, name):
    """Every supported file format opens with its size and special ids, without transformers."""
    tokenizer = open_tokenizer(assets / "tokenizers" / name)
    assert (tokenizer.size, tokenizer.bos_id, tokenizer.eos_id) == REAL[name]


def test_the_same_files_are_opened_once(tmp_path):
    """Opening again gives the same object, until a file has another content of the same size."""
    data = byte_level()
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "a"}', encoding="utf-8")
    opened = open_tokenizer(tmp_path)
    assert open_tokenizer(tmp_path) is opened
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "b"}', encoding="utf-8")
    assert opened.config["bos_token"] == "a"
    assert open_tokenizer(tmp_path).config["bos_token"] == "b"


@pytest.mark.parametrize("name", FERTILITY)
def test_converted_tokenizers_cut_as_published(assets, name, flores):
    """Tokens per whitespace word on FLORES are those that the original tokenizers give."""
    tokenizer = open_tokenizer(assets / "tokenizers" / name)
    for language, expected in zip(("en", "hi", "tr", "ar", "ta"), FERTILITY[name], strict=True):
        texts = [row[language] for row in flores]
        tokens = sum(map(len, tokenizer.encode(texts)))
        assert round(tokens / sum(len(text.split()) for text in texts), 2) == pytest.approx(
            expected, abs=0.0051
        )


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=60))
def test_units_are_what_the_model_sees(name, text):
    """The ids of a text are the ids of its units, one after the other."""
    data = BASES[name]()
    family = family_of(data, "made here")
    tokenizer = open_written(data)
    if any(content in text for content in family.special.values()):
        return
    units = list(family.cut(text))
    assert [i for ids in family.segment(units) for i in ids] == tokenizer.encode(
        text, add_special_tokens=False
    ).ids


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text("ab \n.1नि", max_size=30), max_size=6))
def test_counting_stretches_first_counts_the_same_units(name, texts):
    """Counting by stretches between single spaces agrees with cutting every text whole.

    So does counting in columns.
    """
    family = family_of(BASES[name](), "made here")
    counted = family.units(texts)
    whole = [unit for text in texts for unit in family.cut(text)]
    assert dict(counted) == {unit: whole.count(unit) for unit in whole}
    chunks = count_chunks(family, pa.chunked_array([pa.array(texts, pa.string())]))
    cut = [chunks.units, cut_first(family, chunks.first), cut_rest(family, chunks.rest)]
    assert counter_of(sum_tables(cut)) == counted


def open_written(data):
    from lingraft.tokenizer.json_format import build_backend

    return build_backend(data)


@pytest.mark.parametrize("name", BASES)
def test_special_tokens_right_after_the_vocabulary_keep_their_ids(name):
    """A special token that the model's vocabulary lacks keeps its id when the vocabulary grows."""
    family = family_of(BASES[name](), "made here")
    before = dict(family.special)
    extended = family.with_tokens(["नमस्ते".encode(), "दुनिया".encode()])
    backend = open_written(extended)
    assert {i: backend.id_to_token(i) for i in before} == before
    assert backend.encode("".join(before.values()), add_special_tokens=False).ids == list(before)


@pytest.mark.parametrize("is_sequence", [False, True])
def test_compacting_closes_holes_in_order(is_sequence):
    """Ids close up, and special tokens, also those in the post-processor, move along.

    Llama-3's post-processor is a sequence of two.
    """
    template = {"special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}}}
    sequence = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    data = {
        "model": {"vocab": {"a": 0, "b": 2, "c": 5}},
        "added_tokens": [{"id": 7, "content": "<s>"}],
        "post_processor": sequence if is_sequence else template,
    }
    closed, moved = compact_ids(data)
    assert closed["model"]["vocab"] == {"a": 0, "b": 1, "c": 2}
    assert moved == {0: 0, 2: 1, 5: 2, 7: 3}
    processor = closed["post_processor"]
    processor = processor["processors"][1] if is_sequence else processor
    assert processor["special_tokens"]["<s>"]["ids"] == [3]


@pytest.mark.parametrize("kind", ["RobertaProcessing", "BertProcessing"])
def test_compacting_moves_the_tokens_around_a_text(kind):
    """These post-processors hold their two tokens with their ids, in another form."""
    data = {
        "model": {"vocab": {"a": 0, "b": 2}},
        "added_tokens": [{"id": 5, "content": "<s>"}, {"id": 7, "content": "</s>"}],
        "post_processor": {"type": kind, "cls": ["<s>", 5], "sep": ["</s>", 7]},
    }
    closed, _ = compact_ids(data)
    assert closed["post_processor"] == {"type": kind, "cls": ["<s>", 2], "sep": ["</s>", 3]}
    assert data["post_processor"]["cls"] == ["<s>", 5]


def test_a_word_level_tokenizer_is_refused_by_name(tmp_path):
    """A tokenizer that is not supported is an error with its type and the supported families."""
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": []}))
    with pytest.raises(
        TokenizerError, match=r"'WordLevel'.*byte-level BPE, SentencePiece BPE, Unigram"
    ):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{", "not a readable tokenizer.json"),
        ("tokenizer.json", b"[]", "expected an object with model.vocab"),
        ("tokenizer.json.gz", b"\x1f\x8bnonsense", "not a readable tokenizer.json"),
        (
            "tokenizer.model",
            b"\xff\xff\xff\xff",
            "neither a SentencePiece model nor tiktoken ranks",
        ),
        ("x.tiktoken", b"IQ== 0\nbroken\n", "line 2: not a tiktoken line"),
        ("x.tiktoken", b"IQ== 0\n", "1 tiktoken ranks; the regex is known for"),
        ("vocab.json", b"{}", "expected vocab.json and merges.txt"),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": 0, "b": 0}}}',
            "'a' and 'b' both have the id 0",
        ),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": -1}}}',
            "'a' has the id -1; expected a whole number",
        ),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": true}}}',
            "'a' has the id True; expected a whole number",
        ),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": 5000000000}}}',
            "'a' has the id 5000000000, among 1 tokens",
        ),
        ("tokenizer.json", b'{"model": {"vocab": [["a", 0], ["b"]]}}', "entry 1 of model.vocab is"),
        (
            "tokenizer.json",
            b'{"model": {"type": "BPE", "vocab": {"a": 0}, "end_of_word_suffix": "</w>"}}',
            "end_of_word_suffix '</w>': 'a' and 'a</w>' are two pieces for one spelling",
        ),
        (
            "tokenizer.json",
            b'{"model": {"type": "BPE", "vocab": {"a": 0}, "continuing_subword_prefix": "##"}}',
            "continuing_subword_prefix '##': 'a' and '##a' are two pieces for one spelling",
        ),
        ("tokenizer.json", b'{"model": {"vocab": "abc"}}', "model.vocab is a str; expected pieces"),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 0, "content": "b"}]}',
            "the added token 'b' has the id 0, which belongs to 'a'",
        ),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": 0}}, "added_tokens": ["b"]}',
            "added_tokens holds b; expected",
        ),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    """Each unreadable file is one line with its path and what was expected."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        open_tokenizer(tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_says_what_it_holds(tmp_path):
    """What was looked for and what was found stand in the message."""
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(
        TokenizerError, match=r"no tokenizer here; expected one of tokenizer.json.*found notes.md"
    ):
        open_tokenizer(tmp_path)
