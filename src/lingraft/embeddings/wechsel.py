"""Rows from bilingual word vectors: mixtures of the source's tokens that mean something similar in the other language.

The user gives vectors of words in the source's language and in the target's, in one space; or a dictionary beside
them, by which the target's space is turned into the source's (orthogonal Procrustes). A token's vector is the mean of
the vectors of the words that have it, weighted by their frequency, taken as 1 / rank in the file (Zipf). An added
token's row is the mean of the rows of the nearest source tokens, weighted by the softmax of their cosines. Suffixes: W
words, E width of the vectors, A added tokens, S source tokens with a vector, K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, digest_of
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.embeddings.word_vectors import WordVectors, read_dictionary, read_word_vectors
from lingraft.errors import ModelError
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_SCORES = 64 * 2**20
LEAST_PAIRS = 20


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
        """Return the settings with what is in the files in the place of their paths."""
        files = {
            name: path
            for name in ("source_vectors", "target_vectors", "dictionary")
            if (path := getattr(self, name))
        }
        return {
            self.name: {
                **self.model_dump(mode="json"),
                **{name: digest_of(path) for name, path in files.items()},
            }
        }

    def rows(self, request: InitRequest) -> InitRows:
        """Mix neighbours' rows; a token that is in no word with a vector gets its subtoken mean."""
        key = f"wechsel {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = self._neighbours(request)
        known, neighbours_AK, weights_AK, notes = request.scratch[key]
        rows_AD = SubtokenMean().rows(request).rows
        origins = ["fallback: in no word with a vector, subtoken mean"] * len(rows_AD)
        for begin in range(0, len(known), 1024):
            part = slice(begin, begin + 1024)
            mixed = request.matrix[neighbours_AK[part]].float() * weights_AK[part, :, None]
            rows_AD[known[part]] = mixed.sum(dim=1)
        for number in known:
            origins[number] = "mixture of tokens with similar words"
        return InitRows(rows_AD, tuple(origins), notes)

    def _neighbours(self, request: InitRequest) -> tuple[list[int], Tensor, Tensor, dict[str, Any]]:
        """Return which added tokens have a vector, their source neighbours and the weights of these, [A, K]."""
        import torch
        from torch.nn.functional import normalize

        source, target = self._spaces()
        ids_S, vectors_SE = token_vectors(source, request.source_tokenizer)
        ids_T, vectors_TE = token_vectors(target, request.target_tokenizer)
        place = {token_id: i for i, token_id in enumerate(ids_T)}
        known = [number for number, token in enumerate(request.splice.added) if token.id in place]
        notes = {"words": [len(source.words), len(target.words)], "source_tokens": len(ids_S)}
        if not known or not ids_S:
            return [], torch.empty((0, 0), dtype=torch.long), torch.empty((0, 0)), notes
        wanted_AE = normalize(vectors_TE[[place[request.splice.added[i].id] for i in known]], dim=1)
        anchors_SE, count = normalize(vectors_SE, dim=1), min(self.neighbours, len(ids_S))
        block = max(1, BLOCK_SCORES // len(ids_S))
        nearest = [
            torch.topk(wanted_AE[begin : begin + block] @ anchors_SE.T, count, dim=1)
            for begin in range(0, len(known), block)
        ]
        weights_AK = torch.cat(
            [(scores / self.temperature).softmax(dim=1) for scores, _ in nearest]
        )
        return (
            known,
            torch.tensor(ids_S)[torch.cat([places for _, places in nearest])],
            weights_AK,
            notes,
        )

    def _spaces(self) -> tuple[WordVectors, WordVectors]:
        """Return both languages' vectors in one space; raises `ModelError` where they cannot be brought there."""
        source, target = (
            read_word_vectors(Path(path).expanduser(), self.max_words)
            for path in (self.source_vectors, self.target_vectors)
        )
        if self.dictionary:
            pairs = read_dictionary(Path(self.dictionary).expanduser())
            return source, aligned(source, target, pairs, self.dictionary)
        if source.width != target.width:
            msg = (
                f"{self.source_vectors} has vectors of {source.width} numbers, {self.target_vectors} of "
                f"{target.width}; vectors in one space have the same: align them, or name a dictionary"
            )
            raise ModelError(msg)
        return source, target


def aligned(
    source: WordVectors, target: WordVectors, pairs: Sequence[tuple[str, str]], where: str
) -> WordVectors:
    """Turn the target's vectors so that those of translations meet (Schoenemann 1966); raises `ModelError`."""
    import numpy as np

    places = [{word: i for i, word in enumerate(space.words)} for space in (source, target)]
    known = [
        (places[0][first], places[1][second])
        for first, second in pairs
        if first in places[0] and second in places[1]
    ]
    if len(known) < LEAST_PAIRS:
        msg = (
            f"{where}: {len(known)} of its {len(pairs):,} pairs have a vector on both sides, at least {LEAST_PAIRS} "
            f"are needed; are the source's words first, and is it a dictionary of these languages?"
        )
        raise ModelError(msg)
    first, second = (
        np.stack([_unit(space.vectors_WE[pair[side]]) for pair in known])
        for side, space in enumerate((source, target))
    )
    left, _, right = np.linalg.svd(second.T @ first, full_matrices=False)
    return WordVectors(target.words, target.vectors_WE @ (left @ right))


def _unit(vector_E: Any) -> Any:
    import numpy as np

    return vector_E / max(float(np.linalg.norm(vector_E)), 1e-12)


def token_vectors(space: WordVectors, tokenizer: ModelTokenizer) -> tuple[list[int], Tensor]:
    """Return the ids of tokens that occur in words, and the mean vector of those words, the commoner ones more."""
    import torch

    vectors_WE = torch.from_numpy(space.vectors_WE)
    cut = tokenizer.encode(
        [tokenizer.family.chunk_prefix + word for word in space.words]
    )  # as inside of a text
    owner = torch.tensor([i for i, ids in enumerate(cut) for _ in ids], dtype=torch.long)
    token = torch.tensor([token_id for ids in cut for token_id in ids], dtype=torch.long)
    ids_S, place = token.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    weight = 1.0 / (owner + 1)
    sums_SE = torch.zeros((len(ids_S), vectors_WE.shape[1]))
    for begin in range(0, len(owner), 65536):
        part = slice(begin, begin + 65536)
        sums_SE.index_add_(0, place[part], vectors_WE[owner[part]] * weight[part, None])
    total_S = torch.zeros(len(ids_S)).index_add_(0, place, weight)
    return ids_S.tolist(), sums_SE / total_S[:, None]
