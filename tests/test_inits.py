"""Initialisations: what holds for every registered method, then what each one computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.families import open_tokenizer
from lingraft.inits import INITS, EmbeddingInit, InitRequest
from lingraft.vocabulary import Splice
from tests.models import ARCHITECTURES, IDS, SURFACES, MemoryCorpus, extended_tokenizer

DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture(scope="module", params=["llama", "gemma"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Splice]:
    """Return a model, untied or tied, the extended tokenizer, and the splice."""
    root = tmp_path_factory.mktemp(request.param)
    folder = ARCHITECTURES[request.param].build(root / "source")
    return folder, root / "tokenizer", extended_tokenizer(folder, root / "tokenizer")


def request_of(source: tuple[Path, Path, Splice], side: str = "input", dtype: str = "float32",
               seed: int = 0) -> InitRequest:
    folder, tokenizer, splice = source
    checkpoint = Checkpoint.open(folder)
    names = embedding_names(checkpoint)
    matrices = {"input": checkpoint.tensor(names.input[0]),
                "output": checkpoint.tensor((names.output or names.input)[0])}
    matrix, other = (matrices[which][: splice.source_size].to(getattr(torch, dtype))
                     for which in (side, "output" if side == "input" else "input"))
    return InitRequest(matrix, splice, side, names.tied, None if names.tied else other,
                       open_tokenizer(folder).vocabulary, open_tokenizer(tokenizer).vocabulary, MemoryCorpus(),
                       folder, tokenizer, seed)


@pytest.fixture(params=INITS, ids=lambda cls: cls.name)
def method(request: pytest.FixtureRequest) -> EmbeddingInit:
    """Return every registered method with its default settings."""
    return request.param()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["input", "output"])
def test_every_added_token_gets_a_finite_row_with_an_origin(
        method: EmbeddingInit, side: str, dtype: str, source: tuple[Path, Path, Splice]) -> None:
    """Shape, numbers and origins, for either matrix and any dtype; rows depend on the request alone."""
    request = request_of(source, side, dtype)
    before = request.matrix.clone()
    made = method.rows(request)
    assert made.rows.shape == (len(SURFACES), request.matrix.shape[1])
    assert made.rows.dtype == torch.float32
    assert bool(made.rows.isfinite().all())
    assert len(made.origins) == len(SURFACES)
    assert all(made.origins)
    assert sum(made.counted.values()) == len(SURFACES)
    assert torch.equal(request.matrix, before)
    assert torch.equal(method.rows(request).rows, made.rows)


def test_every_method_says_whom_it_is_owed_to(method: EmbeddingInit) -> None:
    """A reference, a docstring, and settings that a recipe gives back."""
    assert method.reference
    assert type(method).__doc__
    assert INITS.parse(method.chosen()) == method


def test_mean_equals_the_obvious_loop(source: tuple[Path, Path, Splice]) -> None:
    """The mean of the pieces' rows, for every token and each side by itself."""
    for side in ("input", "output"):
        request = request_of(source, side)
        rows = INITS.parse("mean").rows(request).rows
        for row, token in zip(rows, request.splice.added, strict=True):
            total = sum(request.matrix[piece].double() for piece in token.pieces)
            assert torch.equal(row, (total / len(token.pieces)).float())


def test_random_follows_the_matrix_and_the_seed(source: tuple[Path, Path, Splice]) -> None:
    """`random` has the matrix's mean and deviation; another seed and the other side draw other rows."""
    made = INITS.parse("random").rows(request_of(source))
    matrix = request_of(source).matrix
    assert made.notes["deviation"] == pytest.approx(float(matrix.std()), rel=1e-5)
    assert float(made.rows.std()) == pytest.approx(float(matrix.std()), rel=0.2)
    assert not torch.equal(made.rows, INITS.parse("random").rows(request_of(source, seed=1)).rows)
    assert not torch.equal(made.rows, INITS.parse("random").rows(request_of(source, "output")).rows)


def test_random_token_copies_a_row(source: tuple[Path, Path, Splice]) -> None:
    """Each row of `random_token` is one of the source's."""
    request = request_of(source)
    for row in INITS.parse("random_token").rows(request).rows:
        assert bool((request.matrix[:IDS] == row).all(dim=1).any())
