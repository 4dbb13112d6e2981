"""Rows as means of the source tokens that overlap the added token in real text.

Both tokenizers tokenize the same text, and their tokens are aligned by byte position. The row of an
added token is the mean of the rows of the source tokens that overlap it, weighted by the number of
overlaps in the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import ByteSize, Field

from lingraft.corpus import first_documents
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.subtoken_mean import mean_mixture, weighted_means
from lingraft.embeddings.token_ends import EndFinder, TokenEnds
from lingraft.errors import ModelError
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

Counts = dict[int, dict[int, int]]
"""For each added token id: how often each source id overlaps it."""


@INITS.register
class Align(EmbeddingInit):
    """The mean of the source tokens that overlap the token in text, weighted by frequency."""

    name: ClassVar[str] = "align"
    reference: ClassVar[str] = "Yamaguchi, Villavicencio, Aletras 2024 (arXiv 2406.11477), Align"
    needs_corpus: ClassVar[bool] = True

    text_bytes: ByteSize = Field(
        default=ByteSize(5_000_000), gt=0, description="bytes of training text that are read"
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Align the two tokenizations; a token that is not in the text gets its subtoken mean."""
        counts, skipped = self._counts(request)
        pieces: list[tuple[int, ...]] = []
        weights: list[tuple[float, ...]] = []
        origins = []
        for token in request.splice.added:
            if token.id in counts:
                pieces.append(tuple(counts[token.id]))
                weights.append(tuple(map(float, counts[token.id].values())))
                origins.append("aligned pieces")
            else:
                pieces.append(token.pieces)
                weights.append((1.0,) * len(token.pieces))
                origins.append("fallback: not in the text, subtoken mean")
        notes = {"documents_skipped": skipped} if skipped else {}
        means_AD = weighted_means(request.matrix, pieces, weights)
        return InitRows(means_AD, tuple(origins), notes, mixture=mean_mixture(pieces, weights))

    def _counts(self, request: InitRequest) -> tuple[Counts, int]:
        """Count the source ids that overlap each added token, once for both sides."""
        # Both sides share `scratch`, but may have different settings, so the key holds them.
        key = f"align {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = count_aligned_pieces(
                read_text(request, self.text_bytes),
                request.source_tokenizer,
                request.target_tokenizer,
                {token.id for token in request.splice.added},
            )
        cached: tuple[Counts, int] = request.scratch[key]
        return cached


def read_text(request: InitRequest, limit: int) -> Iterator[list[str]]:
    """Yield the first `limit` bytes of the train text in batches of documents.

    Documents are not cut, so the last one may exceed the limit. Raises `ModelError` if there is
    no corpus.
    """
    if request.corpus is None:
        msg = (
            "embeddings: this init reads text, but there is none; give the argument `texts`, or "
            "choose 'mean'"
        )
        raise ModelError(msg)
    documents = first_documents(request.corpus.documents("train"), limit)
    while batch := list(islice(documents, 200)):
        yield batch


def count_aligned_pieces(
    batches: Iterator[list[str]], source: ModelTokenizer, target: ModelTokenizer, added: set[int]
) -> tuple[Counts, int]:
    """Count the source ids that overlap each added token in the text.

    Returns the counts of the added tokens that occur, and the number of skipped documents. A
    document is skipped if the two tokenizations spell texts of different length.
    """
    find_source, find_target = EndFinder(source).find, EndFinder(target).find
    is_added = np.zeros(target.size, dtype=bool)
    is_added[list(added)] = True
    count_of: dict[int, int] = {}
    skipped = 0
    for texts in batches:
        pairs = [np.empty(0, dtype=np.int64)]
        for of_source, of_target in zip(find_source(texts), find_target(texts), strict=True):
            # A normalizer changed the text for one of them, so bytes cannot be aligned.
            if of_source.size != of_target.size:
                skipped += 1
            else:
                pairs.append(_overlaps(of_source, of_target, is_added))
        # Counted batch by batch: the overlaps of the whole text need not be in memory.
        codes, numbers = np.unique(np.concatenate(pairs), return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            count_of[code] = count_of.get(code, 0) + number
    counts: Counts = {}
    # Sorted, because the order of the source ids is the order in which their rows are summed.
    for code, number in sorted(count_of.items()):
        counts.setdefault(code >> 32, {})[code & 0xFFFFFFFF] = number
    return counts, skipped


def _overlaps(source: TokenEnds, target: TokenEnds, is_added: Any) -> Ints:
    """Return a code for every pair of an added token and a source token that overlap in a document.

    The code is target id << 32 | source id: one array of integers that `np.unique` counts fast.
    """
    places = is_added[target.ids].nonzero()[0]
    starts, ends = target.starts[places], target.ends[places]
    # Source tokens first .. first + count - 1 overlap the bytes from start to end.
    first = source.ends.searchsorted(starts, side="right")
    count = source.ends.searchsorted(ends, side="left") + 1 - first
    offsets = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    overlapping = source.ids[np.repeat(first, count) + offsets]
    codes: Ints = (np.repeat(target.ids[places], count) << 32) | overlapping
    return codes
