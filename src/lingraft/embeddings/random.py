"""Initialisations that do not depend on the token: baselines for all other methods.

Suffixes: V source tokens, A added tokens, D width of the matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lingraft.checkpoint.safetensors_files import blocks
from lingraft.embeddings.base import (
    INITS,
    EmbeddingInit,
    InitRequest,
    InitRows,
    RowMixture,
    generator,
)

if TYPE_CHECKING:
    from torch import Tensor


@INITS.register
class RandomRows(EmbeddingInit):
    """Draws numbers from a normal distribution with the matrix's mean and standard deviation."""

    name: ClassVar[str] = "random"
    reference: ClassVar[str] = "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 4: Random"

    def rows(self, request: InitRequest) -> InitRows:
        """Draw A x D numbers."""
        import torch

        mean, deviation = mean_and_deviation(request.matrix)
        shape = (len(request.splice.added), request.matrix.shape[1])
        rows = torch.randn(shape, generator=generator(request)) * deviation + mean
        return InitRows(rows, ("random",) * shape[0], {"mean": mean, "deviation": deviation})


@INITS.register
class RandomToken(EmbeddingInit):
    """Copies the row of a source token that is drawn at random."""

    name: ClassVar[str] = "random_token"
    reference: ClassVar[str] = (
        "Tejaswi, Gupta, Choi 2024 (arXiv 2406.14670), section 4: Random Token"
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Draw A source ids and return their rows."""
        import torch

        # The source's pre-tokenizer cannot produce some of its own tokens. Nothing trained their
        # rows, so a copy of one would not be the row of a token that the model knows.
        untrained = request.splice.untrained
        trained = torch.tensor([i for i in range(request.matrix.shape[0]) if i not in untrained])
        count = len(request.splice.added)
        drawn = trained[torch.randint(len(trained), (count,), generator=generator(request))]
        mixture = RowMixture([[source_id] for source_id in drawn.tolist()], [[1.0]] * count)
        rows = request.matrix[drawn].float()
        return InitRows(rows, ("random token",) * count, mixture=mixture)


@INITS.register
class MeanResizing(EmbeddingInit):
    """Draws rows from a normal distribution around the mean row, with 1e-9 times the covariance.

    This is what transformers does when it resizes embeddings. All rows are practically the same:
    their deviation is about 3e-5 of the deviation of the matrix.
    """

    name: ClassVar[str] = "mean_resizing"
    reference: ClassVar[str] = (
        "Hewitt 2021, Initializing New Word Embeddings for Pretrained Language Models; "
        "transformers, resize_token_embeddings(mean_resizing=True)"
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Draw A rows; needs memory for D x D numbers in addition to the rows."""
        import torch

        mean_D, covariance_DD = mean_and_covariance(request.matrix)
        values, vectors = torch.linalg.eigh(covariance_DD * 1e-9)  # the factor of transformers
        # Rounding makes the smallest eigenvalues slightly negative, and their root would be NaN.
        root_DD = vectors * values.clamp(min=0).sqrt()
        shape = (len(request.splice.added), len(mean_D))
        drawn = torch.randn(shape, generator=generator(request), dtype=torch.float64)
        return InitRows((mean_D + drawn @ root_DD.T).float(), ("mean of all rows",) * len(drawn))


def mean_and_covariance(matrix_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row [D] and the covariance of the columns [D, D] in float64.

    The matrix is read in blocks of rows, because it is mapped from the file in its own dtype.
    """
    import torch

    count, width = matrix_VD.shape
    total = torch.zeros(width, dtype=torch.float64)
    products = torch.zeros((width, width), dtype=torch.float64)
    for block in blocks(matrix_VD):
        total += block.double().sum(dim=0)
    mean = total / count
    # Second pass: centring first avoids the cancellation of E[xx'] - E[x]E[x]'.
    for block in blocks(matrix_VD):
        centred = block.float() - mean.float()
        products += (centred.T @ centred).double()
    return mean, products / count


def mean_and_deviation(matrix_VD: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of all numbers in float64, reading in blocks of rows."""
    mean = sum(float(part.double().sum()) for part in blocks(matrix_VD)) / matrix_VD.numel()
    squares = sum(float((part.double() - mean).square().sum()) for part in blocks(matrix_VD))
    return mean, (squares / max(1, matrix_VD.numel() - 1)) ** 0.5
