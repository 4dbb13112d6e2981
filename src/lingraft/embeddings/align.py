"""Rows from the source pieces that real text really had where a token stands.

Both tokenizers cut the same text. Their tokens are laid side by side by the bytes they spell, and an added token's row
is the mean of the source rows found under it, weighted by how often each was found there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ByteSize, Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.subtoken_mean import weighted_means
from lingraft.errors import ModelError
from lingraft.splice import Vocabulary
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


@INITS.register
class Align(EmbeddingInit):
    """The mean of the source pieces seen under the token in text, weighted by frequency."""

    name: ClassVar[str] = "align"
    reference: ClassVar[str] = "Yamaguchi, Villavicencio, Aletras 2024 (arXiv 2406.11477), Align"
    needs_corpus: ClassVar[bool] = True

    text_bytes: ByteSize = Field(
        default=ByteSize(5_000_000), gt=0, description="bytes of training text that are read"
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Align the two tokenisations and average; a token that the text lacks gets its subtoken mean."""
        counts, skipped = self._counted(request)
        tokens = request.splice.added
        pieces = [
            tuple(counts[token.id]) if token.id in counts else token.pieces for token in tokens
        ]
        weights = [
            tuple(float(n) for n in counts[token.id].values())
            if token.id in counts
            else (1.0,) * len(token.pieces)
            for token in tokens
        ]
        origins = tuple(
            "aligned pieces" if token.id in counts else "fallback: not in the text, subtoken mean"
            for token in tokens
        )
        notes = {"documents_skipped": skipped} if skipped else {}
        return InitRows(weighted_means(request.matrix, pieces, weights), origins, notes)

    def _counted(self, request: InitRequest) -> tuple[dict[int, dict[int, int]], int]:
        """Count the source ids under each added token, once for both sides."""
        key = f"align {self.model_dump_json()}"
        if key not in request.scratch:
            request.scratch[key] = aligned_pieces(
                text_of(request, self.text_bytes),
                request.source_tokenizer,
                request.target_tokenizer,
                {t.id for t in request.splice.added},
            )
        counted: tuple[dict[int, dict[int, int]], int] = request.scratch[key]
        return counted


def text_of(request: InitRequest, limit: int) -> Iterator[list[str]]:
    """Yield the train text in batches up to so many bytes; raises `ModelError` where there is no corpus."""
    if request.corpus is None:
        msg = "this initialisation reads text, and there is no corpus; name one, or choose 'mean'"
        raise ModelError(msg)
    left = limit
    for batch in request.corpus.batches("train", documents=200):
        if left <= 0:
            return
        yield batch
        left -= sum(len(text.encode()) for text in batch)


def aligned_pieces(
    batches: Iterator[list[str]], source: ModelTokenizer, target: ModelTokenizer, added: set[int]
) -> tuple[dict[int, dict[int, int]], int]:
    """Return for each added token seen the source ids under it with their counts; and how many documents do not align.

    A document does not align where the two tokenisations spell texts of different length.
    """
    import numpy as np

    sizes = [sizes_of(tokenizer.vocabulary) for tokenizer in (source, target)]
    is_added = np.zeros(target.size, dtype=bool)
    is_added[list(added)] = True
    found: dict[int, int] = {}
    skipped = 0
    for texts in batches:
        pairs = [np.empty(0, dtype=np.int64)]
        for before, after in zip(source.encode(texts), target.encode(texts), strict=True):
            under = _under(
                np.asarray(before, dtype=np.int64),
                np.asarray(after, dtype=np.int64),
                sizes,
                is_added,
            )
            skipped += under is None
            pairs.extend([] if under is None else [under])
        codes, numbers = np.unique(np.concatenate(pairs), return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            found[code] = found.get(code, 0) + number
    counts: dict[int, dict[int, int]] = {}
    for code, number in sorted(found.items()):
        counts.setdefault(code >> 32, {})[code & 0xFFFFFFFF] = number
    return counts, skipped


def sizes_of(vocabulary: Vocabulary) -> Ints:
    """Return how many bytes each id spells; a special token spells its content."""
    import numpy as np

    surfaces = (
        vocabulary.surfaces[i] or vocabulary.special.get(i, "").encode()
        for i in range(len(vocabulary))
    )
    return np.array([len(surface) for surface in surfaces], dtype=np.int64)


def _under(before: Ints, after: Ints, sizes: Sequence[Ints], is_added: Any) -> Ints | None:
    """Return target id << 32 | source id for every source token that an added token covers in part or whole."""
    import numpy as np

    ends_before, ends_after = sizes[0][before].cumsum(), sizes[1][after].cumsum()
    if not len(before) or not len(after) or ends_before[-1] != ends_after[-1]:
        return None if len(before) or len(after) else np.empty(0, dtype=np.int64)
    places = is_added[after].nonzero()[0]
    ends = ends_after[places]
    starts = ends - sizes[1][after[places]]
    first = ends_before.searchsorted(starts, side="right")
    count = ends_before.searchsorted(ends, side="left") + 1 - first
    offsets = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    codes: Ints = (np.repeat(after[places], count) << 32) | before[
        np.repeat(first, count) + offsets
    ]
    return codes
