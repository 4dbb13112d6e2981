"""Any file is read, or one line says what is wrong: no traceback, no panic, no hanging.

`make fuzz` tries 10,000 files of each kind; here it is a few dozen, the same ones each time.
"""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import json
import lzma
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.corpus import CorpusSettings
from lingraft.corpus.build import build_corpus
from lingraft.errors import LingraftError, TokenizerError
from lingraft.recipe import load_recipe
from lingraft.store import Draft
from lingraft.studies import read_study
from lingraft.tokenizer import open_tokenizer
from tests.conftest import HINDI, ROOT
from tests.small_bases import BASES

pytestmark = pytest.mark.filterwarnings(
    "ignore:Generating overly large repr"
)  # a tokenizer that fails is told whole
EXAMPLES = int(os.environ.get("LINGRAFT_FUZZ", "25"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
WEIRD = (
    None,
    True,
    -1,
    0,
    0.5,
    10**30,
    float("inf"),
    float("nan"),
    "",
    "x",
    "nan",
    "\0",
    "../../etc/passwd",
    "/dev/null",
    "!!python/object",
    "9" * 400,
    [],
    {},
    [[]],
    {"": ""},
    {"a": {"b": []}},
    ["x"] * 50,
    [None],
    [-1, "a"],
)


def survives(action: Callable[[], object]) -> None:
    """Do something with bad input: it works, or there is an error of one line a problem."""
    said = "nothing"
    try:
        action()
    except LingraftError as error:
        said = str(error)
    first, *problems = said.split("\n")
    assert first.strip()
    assert not problems or first == f"{len(problems)} problems"
    assert all(problem.startswith("  ") for problem in problems)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside of a JSON value."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """Draw a JSON value with up to three parts replaced, removed, or copied from elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(value))
        if not paths:
            break
        path, other = draw(st.sampled_from(paths)), draw(st.sampled_from(paths))
        parent, new = value, value
        for key in path[:-1]:
            parent = parent[key]
        for key in other:
            new = new[key]
        kind = draw(st.sampled_from(("replace", "remove", "copy")))
        if kind == "remove":
            del parent[path[-1]]
        else:
            parent[path[-1]] = copy.deepcopy(
                draw(st.sampled_from(WEIRD)) if kind == "replace" else new
            )
    return value


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw bytes with some flipped, cut off, removed, doubled, or put in between."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        where, length = draw(st.integers(0, max(len(found) - 1, 0))), draw(st.integers(0, 40))
        kind = draw(st.sampled_from(("flip", "cut", "remove", "double", "insert", "huge")))
        if kind == "flip" and found:
            found[where] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del found[where:]
        elif kind == "remove":
            del found[where : where + length]
        elif kind == "double":
            found[where:where] = found[where : where + length]
        elif kind == "insert":
            found[where:where] = draw(st.binary(max_size=20))
        else:
            found[where : where + 8] = b"\xff" * 8
    return bytes(found)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


RECIPE = yaml.safe_load(
    (ROOT / "benchmarks" / "recipes" / "english-8m-tamil-tasks.yaml").read_text(encoding="utf-8")
)
STUDY = yaml.safe_load((ROOT / "recipes" / "study-inits.yaml").read_text(encoding="utf-8"))
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)


@fuzzed
@given(recipe=changed(RECIPE))
def test_recipes_with_anything_in_them(place: Path, recipe: Any) -> None:
    """Wrong types, unknown and missing keys, absurd numbers, strange paths."""
    path = place / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    survives(lambda: load_recipe(path))


@fuzzed
@given(
    data=st.one_of(
        damaged((ROOT / "recipes" / "demo.yaml").read_bytes()),
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )
)
@example(data=BOMB.encode())
@example(data=b"model: &m {a: *m}\n")
@example(data=b"x: " + b"[" * 5000)
@example(data=b"!!python/object/apply:os.system ['true']")
@example(data=b"name: 1e999999\nsize: 0x" + b"f" * 400)
def test_recipes_that_are_no_yaml(place: Path, data: bytes) -> None:
    """Any bytes at all; towers of aliases, cycles, deep nesting, tags that would run code."""
    path = place / "bytes.yaml"
    path.write_bytes(data)
    survives(lambda: load_recipe(path))


@fuzzed
@given(study=changed(STUDY))
def test_studies_with_anything_in_them(place: Path, study: Any) -> None:
    """The same of study files."""
    path = place / "study.yaml"
    path.write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")
    survives(lambda: read_study(path, []))


SMALL = {name: BASES[name]() for name in ("byte-level BPE", "SentencePiece BPE")}


@pytest.mark.parametrize("name", SMALL)
@fuzzed
@given(data=st.data())
def test_tokenizers_with_anything_in_them(name: str, place: Path, data: st.DataObject) -> None:
    """Contradictory ids, doubled tokens, impossible or circular merges, missing parts."""
    folder = place / f"tokenizer-{name.split(maxsplit=1)[0]}"
    folder.mkdir(exist_ok=True)
    found = data.draw(changed(SMALL[name]))
    (folder / "tokenizer.json").write_text(json.dumps(found), encoding="utf-8")
    survives(lambda: open_tokenizer(folder).encode(["one house", *HINDI]))


@fuzzed
@given(data=damaged(json.dumps(SMALL["byte-level BPE"]).encode()))
def test_tokenizer_files_that_are_damaged(place: Path, data: bytes) -> None:
    """Cut off, bits flipped, bytes put in between."""
    folder = place / "damaged-tokenizer"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_bytes(data)
    survives(lambda: open_tokenizer(folder).encode(["one house", *HINDI]))


@cache
def sentencepiece_model() -> bytes:
    """Return a small model with a character map."""
    import sentencepiece

    made = io.BytesIO()
    texts = (f"{text} {i}" for i in range(30) for text in HINDI)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=made,
        vocab_size=120,
        model_type="bpe",
        minloglevel=9,
        hard_vocab_limit=False,
        normalization_rule_name="nfkc_cf",
    )
    return made.getvalue()


@fuzzed
@given(data=st.deferred(lambda: damaged(sentencepiece_model())))
def test_sentencepiece_models_that_are_damaged(place: Path, data: bytes) -> None:
    """The same of tokenizer.model."""
    folder = place / "sentencepiece"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(data)
    survives(lambda: open_tokenizer(folder).encode(["one house", *HINDI]))


@fuzzed
@given(data=st.data())
def test_weights_with_lying_headers(tiny_model: Path, place: Path, data: st.DataObject) -> None:
    """Safetensors whose header says what is not so: lengths, places, shapes, kinds, names."""
    folder = place / "weights"
    if not folder.exists():
        folder.mkdir()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((tiny_model / name).read_bytes())
    whole = (tiny_model / "model.safetensors").read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header, body = whole[8 : 8 + size], whole[8 + size :]
    new = data.draw(
        st.one_of(damaged(header), changed(json.loads(header)).map(json.dumps).map(str.encode))
    )
    length = data.draw(st.sampled_from((len(new), len(new), 0, len(new) + 7, 2**63, 2**64 - 1)))
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + new + body)
    survives(lambda: embedding_names(Checkpoint.open(folder)))


WET = "WARC/1.0\nWARC-Type: conversion\nContent-Length: 6\n\nsome {}\n\n"
TEXTS = {
    "txt": "one line\nanother one\n",
    "jsonl": '{"text": "one"}\n{"text": "two"}\n',
    "csv": 'id,text\n1,one\n2,"two, three"\n',
    "tsv": "id\ttext\n1\tone\n2\ttwo\n",
    "wet": WET.format("a") + WET.format("b"),
}


@pytest.mark.parametrize(
    "ending",
    [
        *("txt", "jsonl", "csv", "tsv", "parquet", "arrow", "wet"),
        *("txt.gz", "jsonl.gz", "wet.gz", "jsonl.zst", "txt.xz", "csv.bz2"),
    ],
)
@fuzzed
@given(data=st.data())
def test_texts_with_anything_in_them(ending: str, place: Path, data: st.DataObject) -> None:
    """Invalid UTF-8, NUL, BOM, CRLF, mixed encodings, archives and tables that are damaged."""
    path = place / f"hi.{ending}"
    path.write_bytes(data.draw(st.one_of(st.binary(max_size=60), damaged(text_file(ending)))))
    chosen = CorpusSettings.model_validate({"sources": [str(path)], "heldout_share": 0.5})
    folder = place / f"corpus-{ending}"
    folder.mkdir(exist_ok=True)
    survives(lambda: build_corpus(chosen, "hi", Draft(folder)))


def text_file(ending: str) -> bytes:
    """Return a good file of this kind, with some of what real files have."""
    kind = ending.partition(".")[0]
    if kind in {"parquet", "arrow"}:
        import pyarrow as pa
        import pyarrow.parquet as pq

        made, table = io.BytesIO(), pa.table({"text": list(HINDI)})
        if kind == "parquet":
            pq.write_table(table, made)
        else:
            with pa.ipc.new_stream(made, table.schema) as writer:
                writer.write_table(table)
        return made.getvalue()
    plain = TEXTS[kind].replace("\n", "\r\n").encode() + "é\n".encode("latin-1") + b"\0\n"
    if kind != "wet":
        plain = "\ufeff".encode() + plain
    if ending.endswith("gz"):
        return gzip.compress(plain, mtime=0)
    if ending.endswith("xz"):
        return lzma.compress(plain, preset=0)
    if ending.endswith("bz2"):
        return bz2.compress(plain)
    if ending.endswith("zst"):
        import zstandard

        return zstandard.compress(plain)
    return plain


def test_a_piece_that_is_no_utf8_is_named(place: Path) -> None:
    """A SentencePiece model whose piece holds other bytes is refused with the piece's number."""
    folder = place / "not-utf8"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(
        sentencepiece_model().replace("▁क".encode(), b"\xff\x96\x81\xe0\xa4\x95")
    )
    with pytest.raises(TokenizerError, match=r"piece 3 is b'\\xff.*which is not UTF-8"):
        open_tokenizer(folder)
