"""FOCUS: rows as sparse mixtures of the rows of tokens that are used similarly in target text.

Static token vectors are trained on the text as the target tokenizer splits it. Anchors are the
tokens that both vocabularies have and that have such a vector, so tokens of other languages are not
anchors. Sparsemax turns the cosine similarities between an added token and the anchors into
weights. The new row is the weighted sum of the anchors' source rows. Suffixes: V tokens with a
static vector, E size of the static vectors, A added tokens, D width of the matrix.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import ByteSize, Field

from lingraft.embeddings.align import read_text
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, digest_file
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.embeddings.word_vectors import (
    WordVectors,
    check_vectors,
    read_word_vectors,
    vector_errors,
)
from lingraft.errors import MissingExtraError, ModelError
from lingraft.progress import progress
from lingraft.store import expanded

if TYPE_CHECKING:
    from torch import Tensor

BUCKETS = 100_000
"""Hash buckets of FastText's n-grams: 120 MB at 300 numbers each; its default takes 2.4 GB."""

MAX_SENTENCE_TOKENS = 10_000
"""gensim trains on the first 10,000 words of a sentence and drops the rest without a warning."""

WITHOUT_GENSIM = frozenset({".safetensors", ".npz"})
"""Files of vectors that are read without gensim, an optional extra."""


@INITS.register
class Focus(EmbeddingInit):
    """Sparse mixtures of anchor rows, by similarity of static vectors trained on target text."""

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
        """Return the settings, with the SHA-256 of the file of vectors instead of its path."""
        vectors = {"vectors": digest_file(self.vectors)} if self.vectors else {}
        return {self.name: {**self.model_dump(mode="json"), **vectors}}

    def rows(self, request: InitRequest) -> InitRows:
        """Mix the anchors' rows; a token without a vector gets its subtoken mean."""
        from lingraft.embeddings.sparsemax import mix_rows

        ids, vectors_VE = self._static_vectors(request)
        index_of = {token_id: index for index, token_id in enumerate(ids)}
        tokens = request.splice.added
        special = set(request.target_tokenizer.vocabulary.special)
        anchors, sources = [], []
        for target, source in sorted(request.splice.kept.items()):
            # Special tokens have no meaning that a static vector could show.
            if target in index_of and target not in special:
                anchors.append(index_of[target])
                sources.append(source)
        rows_AD = SubtokenMean().rows(request).rows
        notes = {"anchors": len(anchors)}
        if not anchors:
            origin = "fallback: no anchor occurs in the text, subtoken mean"
            return InitRows(rows_AD, (origin,) * len(tokens), notes)
        origins = ["fallback: too rare in the text, subtoken mean"] * len(tokens)
        known, added = [], []
        for number, token in enumerate(tokens):
            if token.id in index_of:
                known.append(number)
                added.append(index_of[token.id])
                origins[number] = "mixture of anchors"
        if known:
            rows_AD[known] = mix_rows(
                vectors_VE[added], vectors_VE[anchors], request.matrix, sources
            )
        return InitRows(rows_AD, tuple(origins), notes)

    def _static_vectors(self, request: InitRequest) -> tuple[list[int], Tensor]:
        """Return target ids and their vectors [V, E] in float32, computed once for both sides."""
        import torch

        key = f"focus {self.model_dump_json()}"
        if key not in request.scratch:
            if self.vectors:
                size = request.target_tokenizer.size
                ids, vectors = _read_vectors(expanded(self.vectors), size)
            else:
                ids, vectors = self.train(request)
            request.scratch[key] = ids, torch.from_numpy(vectors).float()
        cached: tuple[list[int], Tensor] = request.scratch[key]
        return cached

    def train(self, request: InitRequest) -> tuple[list[int], Any]:
        """Train FastText on the text as the target tokenizer splits it.

        Returns token ids and their vectors [V, E]. Of the request, only the text, the tokenizers
        and the seed are used.
        """
        sentences = _Sentences(request, self.text_bytes)
        model = _import_gensim("fasttext").FastText(
            vector_size=self.vector_size,
            min_count=self.min_count,
            sg=1,  # skip-gram; the default of gensim is CBOW
            workers=1,  # with several threads, the same seed gives different vectors
            seed=request.seed,
            epochs=self.epochs,
            min_n=3,
            max_n=6,
            bucket=BUCKETS,
        )
        model.build_vocab(sentences)
        # gensim cannot train without words: every token is rarer than min_count.
        if not len(model.wv):
            return [], np.empty((0, self.vector_size), dtype=np.float32)
        with progress("training token vectors", self.epochs):
            model.train(sentences, total_examples=model.corpus_count, epochs=self.epochs)
        id_of = {name: token_id for token_id, name in enumerate(sentences.names)}
        ids = list(map(id_of.__getitem__, model.wv.index_to_key))
        return ids, model.wv.vectors.copy()


class _Sentences:
    """The documents of the text as lists of the names of their target tokens.

    A document that is longer than `MAX_SENTENCE_TOKENS` is split into several lists. gensim
    iterates over it several times, so every iteration reads the text again. A token is named
    by its text, so that FastText's character n-grams relate tokens that share letters. A token that
    has no text, or shares it with another token, is named by its id.
    """

    def __init__(self, request: InitRequest, limit: int) -> None:
        self.request, self.limit = request, limit
        self.target = request.target_tokenizer
        vocabulary = self.target.vocabulary
        self.names = []
        for token_id, surface in enumerate(vocabulary.surfaces):
            has_own_text = surface and vocabulary.ids[surface] == token_id
            self.names.append(_name(surface) if surface and has_own_text else f"#{token_id}")

    def __iter__(self) -> Iterator[list[str]]:
        for batch in read_text(self.request, self.limit):
            for ids in self.target.encode(batch):
                names = [self.names[i] for i in ids]
                # A document without tokens is a sentence, too: gensim counts sentences.
                for begin in range(0, max(1, len(names)), MAX_SENTENCE_TOKENS):
                    yield names[begin : begin + MAX_SENTENCE_TOKENS]


def _name(surface: bytes) -> str:
    """Return a token's text, or its bytes in hexadecimal; the prefixes keep the two apart."""
    try:
        return "t" + surface.decode()
    except UnicodeDecodeError:
        return "b" + surface.hex()


def _read_vectors(path: Path, size: int) -> tuple[list[int], Any]:
    """Read token ids and their vectors [V, E]; raises `ModelError` if they cannot be used.

    `size` is the number of ids of the target tokenizer.
    """
    if path.suffix in WITHOUT_GENSIM:
        # There is one vector per token, so the number of words needs no limit.
        read = read_word_vectors(path, sys.maxsize)
    else:
        read = _read_word2vec(path)
    try:
        ids = list(map(int, read.words))
    except (TypeError, ValueError) as error:
        msg = (
            f"{path}: the words of these vectors are not token ids ({error}); "
            "name each vector by the id of its token"
        )
        raise ModelError(msg) from error
    # Vectors of another tokenizer would mix rows of unrelated tokens.
    unknown = next((token_id for token_id in ids if not 0 <= token_id < size), None)
    if unknown is not None:
        msg = (
            f"{path}: the token id {unknown} is outside the {size:,} ids of the extended "
            "tokenizer; give vectors that were trained with this tokenizer"
        )
        raise ModelError(msg)
    return ids, read.vectors_WE


def _read_word2vec(path: Path) -> WordVectors:
    keyed = _import_gensim("keyedvectors").KeyedVectors
    with vector_errors(path):
        read = keyed.load_word2vec_format(str(path), binary=path.suffix == ".bin")
    return check_vectors(path, read.index_to_key, read.vectors.copy())


def _import_gensim(module: str) -> Any:
    """Import `gensim.models.MODULE`; raises `MissingExtraError` if gensim is not installed."""
    try:
        return importlib.import_module(f"gensim.models.{module}")
    except ImportError as error:
        raise MissingExtraError("gensim", extra="focus") from error
