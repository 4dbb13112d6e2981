"""What the surgery asks of an initialisation, and what it gets: one row for every added token, each with its origin.

Shape suffixes: V source ids, A added tokens, D width of the matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lingraft.corpus import Corpus
from lingraft.splice import Splice
from lingraft.tokenizer import ModelTokenizer, open_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

Side = Literal["input", "output"]
"""Which matrix: the embedding table, or the head that makes logits (the language-model head)."""


@dataclass(frozen=True)
class InitRequest:
    """Everything that a method may use to make the rows of `splice.added`.

    `matrix` [V, D] holds the rows of the source vocabulary (no padding) in the checkpoint's own dtype, mapped from the
    file: read the rows that you need and turn those into float32. `other` is the matrix of the other side, `None`
    where the two are tied. The folders hold the two tokenizers, which are opened only when asked for; `corpus` only
    methods that read text need. `scratch` outlives one side: what is costly and the same for both matrices goes there;
    `scratch_dir` survives a killed process. `beside` is the method of the other matrix.
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
    beside: RowMaker | None = None
    scratch: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def source_tokenizer(self) -> ModelTokenizer:
        """The source model's tokenizer, opened once for both sides."""
        return self._opened(self.source_folder)

    @property
    def target_tokenizer(self) -> ModelTokenizer:
        """The extended tokenizer, opened once for both sides."""
        return self._opened(self.tokenizer_folder)

    def _opened(self, folder: Path) -> ModelTokenizer:
        key = f"tokenizer {folder}"
        if key not in self.scratch:
            self.scratch[key] = open_tokenizer(folder)
        tokenizer: ModelTokenizer = self.scratch[key]
        return tokenizer


@dataclass(frozen=True)
class InitRows:
    """Rows [A, D] for `splice.added`, in its order, in float32, with where each one comes from.

    `base` [V, D] are new rows for the source's own ids, from a method that changes these as well; nearly none does.
    """

    rows: Tensor
    origins: tuple[str, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    base: Tensor | None = None

    @property
    def counted(self) -> dict[str, int]:
        """How many rows each origin made, the commonest first."""
        return dict(Counter(self.origins).most_common())


class RowMaker(Protocol):
    """A method that makes rows; see `lingraft.embeddings`."""

    def rows(self, request: InitRequest) -> InitRows:
        """Return one row for every added token."""
        ...

    def chosen(self) -> dict[str, Any]:
        """Return the form that recipes hold."""
        ...
