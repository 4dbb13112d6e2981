"""From rows of the input matrix to what the embedding module of a model gives for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lingraft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def embed_rows(module: Any, rows_ND: Tensor, places: Tensor) -> Tensor:
    """Return what an embedding module would give for rows of `rows_ND`, by their index `places`.

    The module's own code runs, because classes differ: Gemma 3 and XGLM scale the rows of their
    weight, Inkling normalises them. Gradients reach all rows, also where the module has a
    `padding_idx`.

    >>> import torch
    >>> module = torch.nn.Embedding(5, 2, padding_idx=0)
    >>> embed_rows(module, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    # `torch.func.functional_call` would also call the hooks of the module, which expect its matrix.
    own, padding = module.weight, getattr(module, "padding_idx", None)
    module._parameters["weight"] = rows_ND  # noqa: SLF001 - may be no Parameter
    # The padding id is one of the whole matrix: here, it could be outside, or another token's row.
    module.padding_idx = None
    try:
        embedded: Tensor = module.forward(places)
    finally:
        module._parameters["weight"], module.padding_idx = own, padding  # noqa: SLF001 - as above
    return embedded


def check_embed_rows(module: Any, ids_N: Tensor) -> None:
    """Raise `ModelError` if `embed_rows` does not give for rows of the matrix what the module does.

    It does not if the module reads the ids in another way than to look up a row. A module on the
    meta device has no numbers to compare.
    """
    import torch

    if not len(ids_N) or any(parameter.is_meta for parameter in module.parameters()):
        return
    with torch.no_grad():
        embedded = embed_rows(module, module.weight[ids_N], torch.arange(len(ids_N)).to(ids_N))
        if torch.allclose(embedded, module(ids_N), equal_nan=True):
            return
    msg = (
        f"{type(module).__name__}: what it gives for an id is not a function of the row of the id, "
        f"so rows cannot train apart from its matrix; choose the training.strategy full, and no "
        f"embedding init that trains rows"
    )
    raise ModelError(msg)
