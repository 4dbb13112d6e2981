"""The contract of an initialisation: a request in, one row for every added token out, each with its origin."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lingraft.checkpoint.row_request import InitRequest, InitRows, Side
from lingraft.errors import ModelError
from lingraft.registry import Choice, Registry
from lingraft.store import cached_sha256

if TYPE_CHECKING:
    from torch import Generator

__all__ = ["INITS", "EmbeddingInit", "InitRequest", "InitRows", "Side", "digest_of", "generator_of"]


class EmbeddingInit(Choice):
    """A method that makes embedding rows.

    The rows depend on the request alone: same request, same rows, to the bit. `needs_corpus` says whether the method
    reads text.
    """

    needs_corpus: ClassVar[bool] = False

    def identity(self) -> dict[str, Any]:
        """Return JSON that changes whenever the rows would: the settings, files by what is in them, not by path."""
        return self.chosen()

    @abstractmethod
    def rows(self, request: InitRequest) -> InitRows:
        """Return float32 rows [A, D] for `request.splice.added`, in its order."""


INITS: Registry[EmbeddingInit] = Registry("embedding init")


def generator_of(request: InitRequest) -> Generator:
    """Return a random generator that differs between the two sides, so that they are drawn apart."""
    import torch

    return torch.Generator().manual_seed(2 * request.seed + (request.side == "output"))


def digest_of(path: Path | str) -> str:
    """Return the hash of a file that a recipe names; raises `ModelError` where there is none."""
    try:
        return cached_sha256(Path(path).expanduser())
    except OSError as error:
        msg = (
            f"{path}: cannot be read ({error.strerror}), and the embeddings are to be made with it"
        )
        raise ModelError(msg) from error
