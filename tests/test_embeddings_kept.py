"""Every initialisation in a whole resize, on several families, architectures and dtypes."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lingraft.checkpoint import Checkpoint, InitRequest, embedding_names, resize_embeddings
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.embeddings import INITS
from lingraft.splice import Splice
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.vocabulary import SELECTIONS, Extension, extend_tokenizer
from tests.conftest import HINDI, write_lines
from tests.models import ARCHITECTURES, MemoryCorpus, write_tokenizer
from tests.small_bases import BASES
from tests.test_embeddings import word_vectors

CASES = {
    "byte-level, untied": ("llama", "byte-level BPE", "bfloat16"),
    "SentencePiece, untied, float16": ("llama", "SentencePiece BPE", "float16"),
    "SentencePiece, tied and scaled": ("gemma", "Gemma", "float32"),
    "byte-level, tied": ("gpt2", "BLOOM", "float16"),
    "padded": ("qwen2", "Llama-3", "bfloat16"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "focus": {"vector_size": 16, "min_count": 1, "epochs": 1},
    "distilled": {"windows_per_token": 1, "epochs": 1, "window_tokens": 16},
    "learned": {"base_rows": "keep", "max_text_share": 1, "max_tokens": 64, "block_size": 16},
}
TOKENS = 24


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, the extended tokenizer, and the splice between them."""

    folder: Path
    tokenizer: Path
    splice: Splice

    def resize_embeddings(self, method: Any, output: Path) -> dict[str, Any]:
        return resize_embeddings(
            self.folder,
            self.tokenizer,
            self.splice,
            input_init=method,
            output_init=method,
            output=output,
            corpus=MemoryCorpus(),
            seed=3,
        )


def extended(source: Path, corpus: Corpus, folder: Path, size: int) -> tuple[Path, Splice]:
    folder.mkdir(parents=True, exist_ok=True)
    extend_tokenizer(
        source, [corpus], Extension(SELECTIONS.parse("continued"), size), Draft(folder)
    )
    return folder / "tokenizer", Splice.read(folder)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a base of each family, extended by tokens learned from text."""
    architecture, family, dtype = CASES[request.param]
    root = tmp_path_factory.mktemp("case")
    data = BASES[family]()
    size = 1 + max(
        [*data["model"]["vocab"].values(), *(token["id"] for token in data["added_tokens"])]
    )
    rows = size + 40 if request.param == "padded" else size
    ARCHITECTURES[architecture].build_with(rows, root / "source", dtype=dtype)
    (root / "source" / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    names = {
        "eos_token": data["added_tokens"][-1]["content"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (root / "source" / "tokenizer_config.json").write_text(json.dumps(names))
    (root / "corpus").mkdir()
    chosen = CorpusSettings.model_validate(
        {"sources": str(write_lines(root / "hi.txt", HINDI)), "heldout_share": 0.1}
    )
    build_corpus(chosen, "hi", Draft(root / "corpus"))
    return Case(
        root / "source",
        *extended(root / "source", Corpus.open(root / "corpus"), root / "target", TOKENS),
    )


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small model of another width."""
    folder = ARCHITECTURES["gpt-j"].build(tmp_path_factory.mktemp("others") / "donor")
    write_tokenizer(folder)
    return folder


@pytest.fixture(params=INITS.names())
def method(request: pytest.FixtureRequest, donor: Path) -> Any:
    """Return every registered method."""
    if request.param == "focus":
        pytest.importorskip("gensim", reason="focus needs gensim: pip install 'lingraft[focus]'")
    settings = {"donor": {"model": str(donor)}, "wechsel": word_vectors(donor.parent), **SETTINGS}
    return INITS.parse(
        {request.param: settings[request.param]} if request.param in settings else request.param
    )


def embeddings_in(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint.open(folder)
    return {name: checkpoint.tensor(name) for name in embedding_names(checkpoint).all}


def test_base_rows_are_bit_identical(case: Case, method: Any, tmp_path: Path) -> None:
    """Base rows stay bit-identical; added rows are finite, and every one of them has an origin."""
    notes = case.resize_embeddings(method, tmp_path / "model")
    before, after = embeddings_in(case.folder), embeddings_in(tmp_path / "model")
    assert before.keys() == after.keys()
    size, target = case.splice.source_size, case.splice.target_size
    for name, matrix in before.items():
        assert after[name].dtype == matrix.dtype
        assert after[name].shape == (notes["rows"], *matrix.shape[1:])
        assert torch.equal(bits(after[name][:size]), bits(matrix[:size]))
        assert bool(after[name].isfinite().all())
    assert notes["rows"] >= target
    assert notes["base_rows"] == "bit-identical"
    for account in notes["inits"].values():
        if account["method"] != "tied to input":
            assert sum(account["origins"].values()) == len(case.splice.added) == TOKENS
    rest = [load_file(folder / "model.safetensors") for folder in (case.folder, tmp_path / "model")]
    for name in rest[0].keys() - before.keys():
        assert torch.equal(rest[0][name], rest[1][name])


def test_the_same_seed_gives_the_same_file(case: Case, method: Any, tmp_path: Path) -> None:
    """Two resizes with one request give the same file; the model loads, tied as before."""
    for name in ("first", "second"):
        case.resize_embeddings(method, tmp_path / name)
    first, second = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")
    )
    assert first == second
    models = [
        AutoModelForCausalLM.from_pretrained(folder) for folder in (case.folder, tmp_path / "first")
    ]
    tied = [
        model.get_input_embeddings().weight is model.get_output_embeddings().weight
        for model in models
    ]
    assert tied[0] == tied[1]


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view({4: torch.int32, 2: torch.int16}[tensor.element_size()])


def obvious_mean(matrix: torch.Tensor, pieces: list[int]) -> torch.Tensor:
    total = torch.zeros(matrix.shape[1], dtype=torch.float64)
    for piece in pieces:
        total += matrix[piece].double()
    return (total / len(pieces)).float()


def cut_of(source: Path, surface: bytes) -> list[int]:
    """Tokenize a surface with transformers; merge the bytes of partial characters by hand."""
    tokenizer = opened(source)
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return merged_bytes(source, surface)
    if tokenizer.convert_tokens_to_ids("▁") in {None, tokenizer.unk_token_id}:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    before, ids = (
        tokenizer(line, add_special_tokens=False)["input_ids"] for line in ("\n", "\n" + text)
    )
    assert (
        ids[: len(before)] == before
    )  # SentencePiece puts a space before a text, but not after a line break
    return ids[len(before) :]


@cache
def opened(source: Path) -> Any:
    return AutoTokenizer.from_pretrained(source)


@cache
def opened_vocabulary(source: Path) -> Any:
    return open_tokenizer(source).vocabulary


@cache
def merges_of(source: Path) -> tuple[dict[str, int], dict[tuple[str, ...], int]]:
    model = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    return model["vocab"], {tuple(merge): rank for rank, merge in enumerate(merges)}


def merged_bytes(source: Path, surface: bytes) -> list[int]:
    """Merge bytes by rank, one pair at a time."""
    vocab, ranks = merges_of(source)
    parts = [byte_piece(byte) for byte in surface]
    while found := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [vocab[part] for part in parts]


def byte_piece(byte: int) -> str:
    """Return GPT-2's character for a byte: itself if it is visible, else one from 256 upwards."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return chr(
        byte if byte in visible else 256 + sum(other not in visible for other in range(byte))
    )


def is_plain_text(surface: bytes) -> bool:
    """Return whether a surface is valid UTF-8 in NFC."""
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return False
    return unicodedata.is_normalized("NFC", text)


def check_means(source: Path, splice: Splice, matrix: torch.Tensor) -> int:
    """Compare every row with the mean over the base's tokens of the token's text."""
    rows = INITS.parse("mean").rows(InitRequest(matrix, splice, "input")).rows
    for row, token in zip(rows, splice.added, strict=True):
        if token.id in splice.reinitialised and not is_plain_text(token.surface):
            pieces = list(
                token.pieces
            )  # the base's tokenizer, given the surface, would not see these bytes
            assert len(pieces) > 1
            assert (
                b"".join(opened_vocabulary(source).surfaces[piece] for piece in pieces)
                == token.surface
            )
        else:
            pieces = cut_of(source, token.surface)
        assert torch.equal(row, obvious_mean(matrix, pieces)), token
    return len(rows)


def test_mean_is_the_slow_mean_of_the_text(case: Case) -> None:
    """Each row is the mean over the base's tokens of the learned token's text."""
    matrix = torch.randn((case.splice.source_size, 8), generator=torch.Generator().manual_seed(0))
    assert check_means(case.folder, case.splice, matrix) == TOKENS


@pytest.mark.parametrize("name", ["llama2", "gpt2", pytest.param("qwen2", marks=pytest.mark.long)])
def test_mean_on_real_tokenizers(
    name: str, assets: Path, some_text: Callable[..., Path], tmp_path: Path
) -> None:
    """Means are right for 2,000 Hindi tokens on real SentencePiece and byte-level bases."""
    from lingraft.bases.tokenizer_files import write_tokenizer as write

    (tmp_path / "corpus").mkdir()
    chosen = {"sources": str(some_text("hi", 300_000)), "heldout_share": 0.1}
    build_corpus(CorpusSettings.model_validate(chosen), "hi", Draft(tmp_path / "corpus"))
    source = tmp_path / "source"
    source.mkdir()
    write(open_tokenizer(assets / "tokenizers" / name), source, context=512)
    _, splice = extended(source, Corpus.open(tmp_path / "corpus"), tmp_path / "target", 2000)
    matrix = torch.randn((splice.source_size, 4), generator=torch.Generator().manual_seed(0))
    assert check_means(source, splice, matrix) == len(splice.added)
    assert len(splice.new) == 2000
    assert (
        len(list(islice((token for token in splice.added if not token.surface.isascii()), 1000)))
        == 1000
    )
