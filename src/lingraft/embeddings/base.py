"""The interface of an embedding initialisation: an `InitRequest` in, one row per added token out.

Every row has an origin: a short text that says how the row was computed. An origin that starts with
`fallback:` marks a token that the method could not handle. The report counts the origins.

To add an initialisation:

1. Write a module in this package with a subclass of `EmbeddingInit`, decorated `@INITS.register`.
2. Set `name`, which recipes use, and `reference`. Set `needs_corpus = True` if it reads text.
3. Declare its settings as pydantic fields with a `description`.
4. Implement `rows`. Override `identity` if a setting names a file (`digest_file`).
5. Import the class in `lingraft/embeddings/__init__.py` and add it to `__all__`, because a class is
   registered only when its module is imported. Another package uses an entry point instead: group
   `lingraft.embedding_init`, entry `NAME = "package:Class"`.

Import torch inside functions only: reading a recipe imports every method, and must stay fast.
`tests/test_embeddings.py` tests every registered method.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lingraft.checkpoint.row_request import InitRequest, InitRows, RowMixture, Side
from lingraft.errors import ModelError
from lingraft.registry import Choice, Registry
from lingraft.store import cached_sha256, expanded

if TYPE_CHECKING:
    from torch import Generator

__all__ = [
    "INITS",
    "EmbeddingInit",
    "InitRequest",
    "InitRows",
    "RowMixture",
    "Side",
    "digest_file",
    "generator",
]


class EmbeddingInit(Choice):
    """A method that computes the embedding rows of added tokens.

    Rows depend on the settings and the request alone: the same settings and the same request give
    the same rows, bit for bit. `needs_corpus` is true for methods that read text, `needs_model` for
    those that run the source model.
    """

    needs_corpus: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False

    def identity(self) -> dict[str, Any]:
        """Return JSON that changes whenever the settings or their input files change.

        It enters the key of the stage output. A method whose settings name files overrides this
        and puts the SHA-256 of each file in the place of its path.
        """
        return self.chosen()

    @abstractmethod
    def rows(self, request: InitRequest) -> InitRows:
        """Return float32 rows [A, D] for `request.splice.added`, in that order."""


INITS: Registry[EmbeddingInit] = Registry("embedding init", EmbeddingInit)


def generator(request: InitRequest) -> Generator:
    """Return a random generator on the CPU, seeded by the seed and the side of a request."""
    import torch

    # Even seeds for the input side, odd ones for the output side: with one seed for both, an untied
    # model would get the same random rows in both matrices.
    return torch.Generator().manual_seed(2 * request.seed + (request.side == "output"))


def digest_file(path: Path | str) -> str:
    """Return the SHA-256 of a file that a recipe names; raises `ModelError` if it is unreadable."""
    try:
        return cached_sha256(expanded(path))
    except OSError as error:
        msg = (
            f"{path}: cannot be read ({error.strerror}), but the embedding init needs it; "
            "correct the path in the recipe"
        )
        raise ModelError(msg) from error
