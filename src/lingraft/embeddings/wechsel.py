"""WECHSEL: rows as mixtures of source tokens with a similar meaning, by bilingual word vectors.

The user gives word vectors of the source language and of the target language. Either both are in
one space, or the user gives a dictionary of word pairs, from which a rotation of the target space
onto the source space is computed (orthogonal Procrustes). The vector of a token is the mean of the
vectors of the words that contain it, weighted by word frequency, which is approximated as 1 / rank
in the file (Zipf). The row of an added token is the mean of the rows of the nearest source tokens,
weighted by the softmax of their cosines.

Suffixes: W words, E size of the vectors, A added tokens, S source tokens with a vector, T target
tokens with a vector, K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, digest_file
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.embeddings.word_vectors import WordVectors, read_dictionary, read_word_vectors
from lingraft.errors import ModelError
from lingraft.store import expanded
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_SCORES = 64 * 2**20
"""Cosines in memory at a time: 256 MB in float32."""

MIN_PAIRS = 20
"""A dictionary with fewer usable pairs is refused: its two columns are probably swapped."""


@INITS.register
class Wechsel(EmbeddingInit):
    """Mixtures of source rows, by similarity of given bilingual word vectors."""

    name: ClassVar[str] = "wechsel"
    reference: ClassVar[str] = "Minixhofer, Paischer, Rekabsaz 2022, WECHSEL (arXiv 2112.06598)"

    source_vectors: str = Field(
        description="file of word vectors in the source language: .vec, .npz or .safetensors"
    )
    target_vectors: str = Field(description="file of word vectors in the target language")
    dictionary: str | None = Field(
        default=None,
        description="file of word pairs (source, target) for the alignment; by default both files "
        "share one space",
    )
    max_words: int = Field(
        default=100_000,
        gt=0,
        description="maximum number of words read from each file, from the start",
    )
    neighbours: int = Field(default=10, gt=0, description="source tokens per new row")
    temperature: float = Field(
        default=0.1, gt=0, description="temperature of the softmax over their cosine similarities"
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings, with the SHA-256 of each file instead of its path."""
        settings = self.model_dump(mode="json")
        for name in ("source_vectors", "target_vectors", "dictionary"):
            if settings[name]:
                settings[name] = digest_file(settings[name])
        return {self.name: settings}

    def rows(self, request: InitRequest) -> InitRows:
        """Mix the neighbours' rows; a token that is in no known word gets its subtoken mean."""
        key = f"wechsel {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = self._neighbours(request)
        known, neighbours_AK, weights_AK, notes = request.scratch[key]
        rows_AD = SubtokenMean().rows(request).rows
        origins = ["fallback: in no word with a vector, subtoken mean"] * len(rows_AD)
        # In parts of 1,024 tokens: each token needs K whole rows in memory.
        for begin in range(0, len(known), 1024):
            part = slice(begin, begin + 1024)
            mixed = request.matrix[neighbours_AK[part]].float() * weights_AK[part, :, None]
            rows_AD[known[part]] = mixed.sum(dim=1)
        for number in known:
            origins[number] = "mixture of tokens with similar words"
        return InitRows(rows_AD, tuple(origins), notes)

    def _neighbours(self, request: InitRequest) -> tuple[list[int], Tensor, Tensor, dict[str, Any]]:
        """Find the source tokens that are nearest to each added token.

        Returns four values: the positions in `splice.added` of the tokens that have a vector, the
        ids of their neighbours [A, K], the weights of those [A, K], and notes.
        """
        import torch

        normalize = torch.nn.functional.normalize
        source, target = self._read_spaces()
        ids_S, vectors_SE = token_vectors(source, request.source_tokenizer)
        ids_T, vectors_TE = token_vectors(target, request.target_tokenizer)
        index_of = {token_id: index for index, token_id in enumerate(ids_T)}
        known, indices = [], []
        for number, token in enumerate(request.splice.added):
            if token.id in index_of:
                known.append(number)
                indices.append(index_of[token.id])
        notes = {"words": [len(source.words), len(target.words)], "source_tokens": len(ids_S)}
        if not known or not ids_S:
            return [], torch.empty((0, 0), dtype=torch.long), torch.empty((0, 0)), notes
        added_AE, source_SE = normalize(vectors_TE[indices], dim=1), normalize(vectors_SE, dim=1)
        count = min(self.neighbours, len(ids_S))
        block = max(1, BLOCK_SCORES // len(ids_S))
        weights, places = [], []
        for begin in range(0, len(known), block):
            cosines_AK, places_AK = torch.topk(
                added_AE[begin : begin + block] @ source_SE.T, count, dim=1
            )
            weights.append((cosines_AK / self.temperature).softmax(dim=1))
            places.append(places_AK)
        return known, torch.tensor(ids_S)[torch.cat(places)], torch.cat(weights), notes

    def _read_spaces(self) -> tuple[WordVectors, WordVectors]:
        """Return both languages' vectors in one space.

        Raises `ModelError` if there is no dictionary and the vectors differ in width.
        """
        source = read_word_vectors(expanded(self.source_vectors), self.max_words)
        target = read_word_vectors(expanded(self.target_vectors), self.max_words)
        if self.dictionary:
            pairs = read_dictionary(expanded(self.dictionary))
            return source, rotate(source, target, pairs, self.dictionary)
        if source.width != target.width:
            msg = (
                f"{self.source_vectors} has vectors of {source.width} numbers, "
                f"{self.target_vectors} of {target.width}, so they do not share a space; "
                "align them, or name a dictionary"
            )
            raise ModelError(msg)
        return source, target


def rotate(
    source: WordVectors, target: WordVectors, pairs: Sequence[tuple[str, str]], where: str
) -> WordVectors:
    """Rotate the target vectors so that translations are close to each other (Schoenemann 1966).

    `where` names the dictionary in the `ModelError` that is raised if too few pairs have a vector
    on both sides.
    """
    source_index = {word: index for index, word in enumerate(source.words)}
    target_index = {word: index for index, word in enumerate(target.words)}
    source_units, target_units = [], []
    for source_word, target_word in pairs:
        if source_word in source_index and target_word in target_index:
            source_units.append(_unit(source.vectors_WE[source_index[source_word]]))
            target_units.append(_unit(target.vectors_WE[target_index[target_word]]))
    if len(source_units) < MIN_PAIRS:
        msg = (
            f"{where}: {len(source_units)} of its {len(pairs):,} pairs have a vector on both "
            f"sides, but at least {MIN_PAIRS} are needed; check that the source words come first "
            "and that the dictionary is of these languages"
        )
        raise ModelError(msg)
    # Unit vectors, so that every pair counts the same. The orthogonal matrix that maps target onto
    # source best comes from the SVD of the products.
    products = np.stack(target_units).T @ np.stack(source_units)
    left, _, right = np.linalg.svd(products, full_matrices=False)
    return WordVectors(target.words, target.vectors_WE @ (left @ right))


def _unit(vector_E: Any) -> Any:
    # A vector of zeros stays as it is.
    return vector_E / max(float(np.linalg.norm(vector_E)), 1e-12)


def token_vectors(space: WordVectors, tokenizer: ModelTokenizer) -> tuple[list[int], Tensor]:
    """Return the ids of the tokens that occur in words, and their vectors [S, E].

    The vector of a token is the mean of the vectors of its words, weighted by 1 / rank. The unknown
    token has none.
    """
    import torch

    vectors_WE = torch.from_numpy(space.vectors_WE)
    # With its prefix in front (such as the space of GPT-2), a word gets the tokens that it has
    # inside a text.
    tokenized = tokenizer.encode([tokenizer.family.chunk_prefix + word for word in space.words])
    lengths = torch.tensor(list(map(len, tokenized)))
    owner = torch.arange(len(tokenized)).repeat_interleave(lengths)
    token = torch.tensor(list(chain.from_iterable(tokenized)), dtype=torch.long)
    if tokenizer.family.unknown is not None:
        # "<unk>" stands for text of any meaning, so it is not similar to any token.
        is_known = token != tokenizer.family.unknown
        owner, token = owner[is_known], token[is_known]
    ids_S, place = token.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    # The files hold no counts. By Zipf's law, a word's frequency is about 1 / its rank.
    weight = 1.0 / (owner + 1)
    sums_SE = torch.zeros((len(ids_S), vectors_WE.shape[1]))
    # In parts, because a word's vector is copied for each of its tokens.
    for begin in range(0, len(owner), 65536):
        part = slice(begin, begin + 65536)
        sums_SE.index_add_(0, place[part], vectors_WE[owner[part]] * weight[part, None])
    total_S = torch.zeros(len(ids_S)).index_add_(0, place, weight)
    return ids_S.tolist(), sums_SE / total_S[:, None]
