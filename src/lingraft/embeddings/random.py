"""Rows that know nothing of their token: the baselines that every informed method has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lingraft.checkpoint.safetensors_files import blocks
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, generator_of

if TYPE_CHECKING:
    from torch import Tensor


@INITS.register
class RandomRows(EmbeddingInit):
    """Each number drawn from a normal distribution with the mean and the deviation of the whole matrix."""

    name: ClassVar[str] = "random"
    reference: ClassVar[str] = "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 4: Random"

    def rows(self, request: InitRequest) -> InitRows:
        """Draw A x D numbers."""
        import torch

        mean, deviation = mean_and_deviation(request.matrix)
        shape = (len(request.splice.added), request.matrix.shape[1])
        rows = torch.randn(shape, generator=generator_of(request)) * deviation + mean
        return InitRows(rows, ("random",) * shape[0], {"mean": mean, "deviation": deviation})


@INITS.register
class RandomToken(EmbeddingInit):
    """A copy of the row of a source token drawn at random."""

    name: ClassVar[str] = "random_token"
    reference: ClassVar[str] = (
        "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 4: Random Token"
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Draw A source ids and return their rows."""
        import torch

        untrained = request.splice.untrained
        trained = torch.tensor([i for i in range(request.matrix.shape[0]) if i not in untrained])
        drawn = trained[
            torch.randint(
                len(trained), (len(request.splice.added),), generator=generator_of(request)
            )
        ]
        return InitRows(request.matrix[drawn].float(), ("random token",) * len(drawn))


@INITS.register
class MeanResizing(EmbeddingInit):
    """What transformers does when it resizes: normal around the mean row, with a billionth of the covariance.

    All rows are practically the same (their deviation is some 1e-5 of that of the matrix).
    """

    name: ClassVar[str] = "mean_resizing"
    reference: ClassVar[str] = (
        "Hewitt 2021, Initializing New Word Embeddings for Pretrained Language Models; "
        "transformers, resize_token_embeddings(mean_resizing=True)"
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Draw A rows; memory D x D numbers beside them."""
        import torch

        mean_D, covariance_DD = mean_and_covariance(request.matrix)
        values, vectors = torch.linalg.eigh(covariance_DD * 1e-9)
        root_DD = vectors * values.clamp(min=0).sqrt()
        drawn = torch.randn(
            (len(request.splice.added), len(mean_D)),
            generator=generator_of(request),
            dtype=torch.float64,
        )
        return InitRows((mean_D + drawn @ root_DD.T).float(), ("mean of all rows",) * len(drawn))


def mean_and_covariance(matrix_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row and the covariance of the columns in float64, a block of rows at a time."""
    import torch

    count, width = matrix_VD.shape
    total = torch.zeros(width, dtype=torch.float64)
    products = torch.zeros((width, width), dtype=torch.float64)
    for block in blocks(matrix_VD):
        total += block.double().sum(dim=0)
    mean = total / count
    for block in blocks(matrix_VD):
        centred = block.float() - mean.float()
        products += (centred.T @ centred).double()
    return mean, products / count


def mean_and_deviation(matrix_VD: Tensor, block: int = 8192) -> tuple[float, float]:
    """Return mean and standard deviation of all numbers, a block of rows at a time, in float64."""
    mean = sum(float(part.double().sum()) for part in blocks(matrix_VD, block)) / matrix_VD.numel()
    squares = sum(float((part.double() - mean).square().sum()) for part in blocks(matrix_VD, block))
    return mean, (squares / max(1, matrix_VD.numel() - 1)) ** 0.5
