"""Rows as means of the source tokens that overlap the added token in real text.

Both tokenizers tokenize the same text, and their tokens are aligned by byte position. The row of an
added token is the mean of the rows of the source tokens that overlap it, weighted by the number of
overlaps in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import ByteSize, Field

from lingraft.corpus import first_documents
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.subtoken_mean import mean_mixture, weighted_means
from lingraft.errors import ModelError
from lingraft.splice import Vocabulary
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
    sizes = surface_sizes(source.vocabulary), surface_sizes(target.vocabulary)
    is_added = np.zeros(target.size, dtype=bool)
    is_added[list(added)] = True
    count_of: dict[int, int] = {}
    skipped = 0
    for texts in batches:
        pairs = [np.empty(0, dtype=np.int64)]
        for source_ids, target_ids in zip(source.encode(texts), target.encode(texts), strict=True):
            overlaps = _overlaps(
                np.asarray(source_ids, dtype=np.int64),
                np.asarray(target_ids, dtype=np.int64),
                sizes,
                is_added,
            )
            if overlaps is None:
                skipped += 1
            else:
                pairs.append(overlaps)
        # Counted batch by batch: the overlaps of the whole text need not be in memory.
        codes, numbers = np.unique(np.concatenate(pairs), return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            count_of[code] = count_of.get(code, 0) + number
    counts: Counts = {}
    # Sorted, because the order of the source ids is the order in which their rows are summed.
    for code, number in sorted(count_of.items()):
        counts.setdefault(code >> 32, {})[code & 0xFFFFFFFF] = number
    return counts, skipped


def surface_sizes(vocabulary: Vocabulary) -> Ints:
    """Return the number of bytes that each id stands for; a special token, for its content."""
    sizes = []
    for token_id, surface in enumerate(vocabulary.surfaces):
        sizes.append(len(surface or vocabulary.special.get(token_id, "").encode()))
    return np.array(sizes, dtype=np.int64)


def _overlaps(
    source_ids: Ints, target_ids: Ints, sizes: Sequence[Ints], is_added: Any
) -> Ints | None:
    """Return a code for every pair of an added token and a source token that overlap in a document.

    The code is target id << 32 | source id: one array of integers that `np.unique` counts fast.
    Returns `None` if the tokenizations spell texts of different length.
    """
    source_ends, target_ends = sizes[0][source_ids].cumsum(), sizes[1][target_ids].cumsum()
    if not len(source_ids) and not len(target_ids):
        return np.empty(0, dtype=np.int64)
    if not len(source_ids) or not len(target_ids) or source_ends[-1] != target_ends[-1]:
        # A normalizer changed the text for one of them, so bytes cannot be aligned.
        return None
    places = is_added[target_ids].nonzero()[0]
    ends = target_ends[places]
    starts = ends - sizes[1][target_ids[places]]
    # Source tokens first .. first + count - 1 overlap the bytes from start to end.
    first = source_ends.searchsorted(starts, side="right")
    count = source_ends.searchsorted(ends, side="left") + 1 - first
    offsets = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    overlapping = source_ids[np.repeat(first, count) + offsets]
    codes: Ints = (np.repeat(target_ids[places], count) << 32) | overlapping
    return codes
