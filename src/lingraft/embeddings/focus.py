"""Sparsemax: the point of the probability simplex nearest to a vector of scores (Martins & Astudillo 2016).

Only scores within 1 of the highest can get weight, and few of those do, so the highest are looked at first: 64 of them,
and four times as many for the rows where all had weight. A full sort of 100,000 scores a row is never needed.
Suffixes: A rows, N scores, K highest scores.

FOCUS: rows as sparse mixtures of the rows of tokens that mean something similar in the target's own text.

Static vectors are trained on the text as the target tokenizer cuts it. For each added token, its cosine similarity to
the anchors, tokens that the source has too, goes through sparsemax; the weights then mix the anchors' source rows. The
anchors are those that occur in the target's text, so that no English-only token takes part. Suffixes: A added tokens,
N anchors, E size of the static vectors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ByteSize, Field

from lingraft.embeddings.align import text_of
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, digest_of
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.embeddings.word_vectors import read_word_vectors
from lingraft.errors import MissingExtraError, ModelError
from lingraft.progress import progress

if TYPE_CHECKING:
    from torch import Tensor


FIRST_LOOK = 64


def sparsemax(scores_AN: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of the K highest scores of each row and their places, [A, K] each; weights sum to 1.

    K is the largest support of all rows, rounded up to a power of four times 64; weights outside a row's support are 0.

    >>> import torch
    >>> weights, places = sparsemax(torch.tensor([[0.1, 1.2, 0.6]]))
    >>> [round(w, 6) for w in weights[0].tolist()], places[0].tolist()
    ([0.8, 0.2, 0.0], [1, 2, 0])
    """
    import torch

    size = min(FIRST_LOOK, scores_AN.shape[1])
    highest_AK, places_AK = scores_AN.topk(size, dim=1)
    weights_AK = _weights(highest_AK)
    full = (weights_AK[:, -1] > 0).nonzero()[:, 0]
    while len(full) and size < scores_AN.shape[1]:
        size = min(4 * size, scores_AN.shape[1])
        more, where = scores_AN[full].topk(size, dim=1)
        padding = size - weights_AK.shape[1]
        weights_AK = torch.nn.functional.pad(weights_AK, (0, padding))
        places_AK = torch.nn.functional.pad(places_AK, (0, padding))
        weights_AK[full], places_AK[full] = _weights(more), where
        full = full[weights_AK[full, -1] > 0]
    return weights_AK, places_AK


def _weights(sorted_AK: Tensor) -> Tensor:
    """Return the sparsemax of rows sorted from high to low, exact where the support is smaller than K."""
    import torch

    counts_K = torch.arange(1, sorted_AK.shape[1] + 1, dtype=sorted_AK.dtype)
    excess_AK = sorted_AK.cumsum(dim=1) - 1
    support_A = (counts_K * sorted_AK > excess_AK).sum(dim=1, keepdim=True)
    threshold_A = excess_AK.gather(1, support_A - 1) / support_A
    return (sorted_AK - threshold_A).clamp(min=0)


BLOCK_SCORES = 64 * 2**20
BUCKETS = 100_000
"""Hash buckets of FastText's n-grams: 120 MB at 300 numbers each, where its default takes 2.4 GB."""


@INITS.register
class Focus(EmbeddingInit):
    """Sparse mixtures of anchor rows, by similarity of static vectors trained on the target's text."""

    name: ClassVar[str] = "focus"
    reference: ClassVar[str] = "Dobler & de Melo 2023, FOCUS (arXiv 2305.14481)"
    needs_corpus: ClassVar[bool] = True

    text_bytes: ByteSize = Field(
        default=ByteSize(20_000_000),
        gt=0,
        description="bytes of training text that the vectors are trained on",
    )
    vector_size: int = Field(default=300, gt=0, description="dimensions of the static vectors")
    epochs: int = Field(default=3, gt=0, description="passes over the text")
    min_count: int = Field(
        default=10, gt=0, description="tokens with fewer occurrences in the text get no vector"
    )
    vectors: str | None = Field(
        default=None,
        description="file with one vector per token id, used instead of training: .safetensors, "
        ".npz (arrays `words`, `vectors`), or word2vec's .txt and .bin (these need "
        "gensim)",
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings, the file of vectors by what is in it."""
        given = {"vectors": digest_of(self.vectors)} if self.vectors else {}
        return {self.name: {**self.model_dump(mode="json"), **given}}

    def rows(self, request: InitRequest) -> InitRows:
        """Mix anchor rows; a token without a vector gets its subtoken mean."""
        names, vectors_VE = self._vectors(request)
        place = {name: number for number, name in enumerate(names)}
        tokens = request.splice.added
        special = set(request.target_tokenizer.vocabulary.special)
        anchors = [
            (place[target], source)
            for target, source in sorted(request.splice.kept.items())
            if target in place and target not in special
        ]
        known = [number for number, token in enumerate(tokens) if token.id in place]
        rows_AD = SubtokenMean().rows(request).rows
        origins = ["fallback: too rare in the text, subtoken mean"] * len(tokens)
        if not anchors:
            known, origins = (
                [],
                ["fallback: no anchor occurs in the text, subtoken mean"] * len(tokens),
            )
        if known:
            mixed = mixtures(
                vectors_VE[[place[tokens[i].id] for i in known]],
                vectors_VE[[p for p, _ in anchors]],
                request.matrix,
                [source for _, source in anchors],
            )
            rows_AD[known] = mixed
            for number in known:
                origins[number] = "mixture of anchors"
        return InitRows(rows_AD, tuple(origins), {"anchors": len(anchors)})

    def _vectors(self, request: InitRequest) -> tuple[list[int], Tensor]:
        """Return target ids and a vector for each, [N, E] in float32; made once for both sides."""
        import torch

        key = f"focus {self.model_dump_json()}"
        if key not in request.scratch:
            ids, vectors = (
                _read_vectors(Path(self.vectors)) if self.vectors else self.train(request)
            )
            request.scratch[key] = ids, torch.from_numpy(vectors).float()
        made: tuple[list[int], Tensor] = request.scratch[key]
        return made

    def train(self, request: InitRequest) -> tuple[list[int], Any]:
        """Train FastText on the text as the target tokenizer cuts it; return token ids and a vector for each.

        One thread, so that a seed gives one result. Of the request, only text, tokenizers and seed are used.
        """
        import numpy as np

        sentences = _Sentences(request, self.text_bytes)
        model = _gensim("fasttext").FastText(
            vector_size=self.vector_size,
            min_count=self.min_count,
            sg=1,
            workers=1,
            seed=request.seed,
            epochs=self.epochs,
            min_n=3,
            max_n=6,
            bucket=BUCKETS,
        )
        model.build_vocab(sentences)
        if not len(model.wv):
            return [], np.empty((0, self.vector_size), dtype=np.float32)
        with progress("training token vectors", self.epochs):
            model.train(sentences, total_examples=model.corpus_count, epochs=self.epochs)
        number = {name: token_id for token_id, name in enumerate(sentences.names)}
        return [number[name] for name in model.wv.index_to_key], model.wv.vectors.copy()


class _Sentences:
    """The documents of the text as lists of the target's tokens, read anew at each pass.

    A token is named by its text, so that FastText's character n-grams relate tokens that share letters; by its id where
    it has no text of its own.
    """

    def __init__(self, request: InitRequest, limit: int) -> None:
        self.request, self.limit = request, limit
        self.target = request.target_tokenizer
        vocabulary = self.target.vocabulary
        self.names = [
            _name(surface) if surface and vocabulary.ids[surface] == i else f"#{i}"
            for i, surface in enumerate(vocabulary.surfaces)
        ]

    def __iter__(self) -> Iterator[list[str]]:
        for batch in text_of(self.request, self.limit):
            for ids in self.target.encode(batch):
                yield [self.names[i] for i in ids]


def _name(surface: bytes) -> str:
    try:
        return "t" + surface.decode()
    except UnicodeDecodeError:
        return "b" + surface.hex()


def mixtures(
    added_AE: Tensor, anchors_NE: Tensor, matrix_VD: Tensor, sources_N: Sequence[int]
) -> Tensor:
    """Return sparsemax mixtures [A, D] of the anchors' source rows, by cosine similarity of the static vectors.

    Memory: 256 MB of scores at a time.
    """
    import torch
    from torch.nn.functional import embedding_bag, normalize

    added_AE, anchors_NE = normalize(added_AE, dim=1), normalize(anchors_NE, dim=1)
    rows_ND = matrix_VD[torch.tensor(sources_N)].float()
    block = max(1, BLOCK_SCORES // max(1, len(anchors_NE)))
    mixed = []
    for begin in range(0, len(added_AE), block):
        weights_AK, places_AK = sparsemax(added_AE[begin : begin + block] @ anchors_NE.T)
        mixed.append(embedding_bag(places_AK, rows_ND, per_sample_weights=weights_AK, mode="sum"))
    return torch.cat(mixed)


WITHOUT_GENSIM = frozenset({".safetensors", ".npz"})


def _read_vectors(path: Path) -> tuple[list[int], Any]:
    if path.suffix in WITHOUT_GENSIM:
        return _read_arrays(path)
    keyed = _gensim("keyedvectors").KeyedVectors
    try:
        read = keyed.load_word2vec_format(str(path), binary=path.suffix == ".bin")
        return [int(name) for name in read.index_to_key], read.vectors.copy()
    except (OSError, ValueError, UnicodeDecodeError) as error:
        msg = f"{path}: not a word2vec file whose words are token ids ({error})"
        raise ModelError(msg) from error


def _read_arrays(path: Path) -> tuple[list[int], Any]:
    found = read_word_vectors(path, sys.maxsize)
    try:
        return [int(name) for name in found.words], found.vectors_WE
    except ValueError as error:
        msg = f"{path}: the words of these vectors are no token ids ({error}); name each vector by its token's id"
        raise ModelError(msg) from error


def _gensim(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"gensim.models.{module}")
    except ImportError as error:
        raise MissingExtraError("gensim", extra="focus") from error
