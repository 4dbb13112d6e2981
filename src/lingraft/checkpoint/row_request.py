"""The interface between the resize and an initialisation method.

A method gets an `InitRequest` for one side and returns `InitRows`: one row for every added token,
each with its origin.

Shape suffixes: V source ids, A added tokens, D width of the matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lingraft.corpus import Corpus
from lingraft.errors import ModelError
from lingraft.splice import Splice
from lingraft.tokenizer import ModelTokenizer, open_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

Side = Literal["input", "output"]
"""The input embedding, or the output head that computes the logits."""


@dataclass(frozen=True)
class InitRequest:
    """Everything that a method may use to compute the rows of `splice.added`.

    `matrix` [V, D] holds the rows of the source vocabulary (no padding) in the dtype of the
    checkpoint. It is mapped from the file: read only the rows that you need and convert those to
    float32. `other` is the matrix of the other side and `other_init` its method; both are `None`
    where the sides are tied. Only methods that read text need `corpus`. `scratch` is shared by the
    requests of both sides, for results that are expensive and serve both; `scratch_dir` survives a
    killed process, and is used for this model, these tokenizers and this text alone.
    """

    matrix: Tensor
    splice: Splice
    side: Side
    tied: bool = False
    other: Tensor | None = None
    source_folder: Path = Path()
    tokenizer_folder: Path = Path()
    corpus: Corpus | None = None
    seed: int = 0
    device: str = "cpu"
    scratch_dir: Path | None = None
    other_init: RowMaker | None = None
    scratch: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def source_tokenizer(self) -> ModelTokenizer:
        """The source model's tokenizer, opened once for both sides."""
        return self._open(self.source_folder)

    @property
    def target_tokenizer(self) -> ModelTokenizer:
        """The extended tokenizer, opened once for both sides."""
        return self._open(self.tokenizer_folder)

    def _open(self, folder: Path) -> ModelTokenizer:
        """Open a tokenizer at first use: most methods need none, and a large one takes seconds."""
        key = tokenizer_key(folder)
        if key not in self.scratch:
            if folder == Path():
                msg = (
                    "embeddings: this init reads tokens, and the splice names none; give "
                    "tokenizers=(source, extended), or the splice of extend_tokenizer"
                )
                raise ModelError(msg)
            self.scratch[key] = open_tokenizer(folder)
        tokenizer: ModelTokenizer = self.scratch[key]
        return tokenizer


def tokenizer_key(folder: Path) -> str:
    """Return the key of `InitRequest.scratch` under which the tokenizer of a folder is kept."""
    return f"tokenizer {folder}"


@dataclass(frozen=True)
class RowMixture:
    """The source ids that each added row is a weighted sum of, and their weights."""

    ids: Sequence[Sequence[int]]
    weights: Sequence[Sequence[float]]


@dataclass(frozen=True, eq=False)
class InitRows:
    """Rows [A, D] in float32 for `splice.added`, in its order, with the origin of each.

    `base` [V, D] are new rows for the source's own ids. Only a method that trains them (`learned`)
    sets it. `mixture` says how the rows follow from source rows; `None` if they were drawn or
    trained.
    """

    rows: Tensor
    origins: tuple[str, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    base: Tensor | None = None
    mixture: RowMixture | None = None

    def __repr__(self) -> str:
        """Return the numbers: there are thousands of rows, each with its origin and weights."""
        return f"InitRows(shape {tuple(self.rows.shape)}; {self.origin_counts})"

    @property
    def origin_counts(self) -> dict[str, int]:
        """The number of rows of each origin, the most frequent first."""
        return dict(Counter(self.origins).most_common())


class RowMaker(Protocol):
    """A method that computes rows; see `lingraft.embeddings`."""

    def rows(self, request: InitRequest) -> InitRows:
        """Return one row for every added token."""
        ...

    def chosen(self) -> dict[str, Any]:
        """Return the method and its settings, in the form that recipes use."""
        ...
