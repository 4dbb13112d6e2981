"""Embedding and head modules in which the added rows are separate parameters.

The added rows can then have another learning rate than the matrices (`differential`). Or the
matrices are frozen (`rows`): base rows stay bit-identical, and gradients and optimizer state exist
for the added rows only.

Shape suffixes: V rows, N added rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lingraft.checkpoint.embed_rows import check_embed_rows, embed_rows


class RowsEmbedding(nn.Module):
    """Wraps an embedding; the rows of added tokens come from the parameter `rows`.

    `places_V` is the index in `rows` of each id, -1 for an id of the base.
    """

    places_V: Tensor  # noqa: N815

    def __init__(self, plain: nn.Embedding, rows_ND: nn.Parameter, places_V: Tensor) -> None:
        super().__init__()
        self.plain = plain
        self.rows = rows_ND
        self.register_buffer("places_V", places_V, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The matrix of the wrapped module. Its added rows are out of date during training."""
        return self.plain.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return the row of each id; those of added tokens come from `rows`."""
        places = self.places_V[ids]
        added = embed_rows(self.plain, self.rows, places.clamp(min=0))
        base = self.plain(ids) if self.plain.weight.requires_grad else self.plain(ids).detach()
        return torch.where((places >= 0).unsqueeze(-1), added, base)


class RowsHead(nn.Module):
    """Wraps a linear head; the rows of the added ids `added_N` come from the parameter `rows`."""

    added_N: Tensor  # noqa: N815

    def __init__(self, plain: nn.Linear, rows_ND: nn.Parameter, added_N: Tensor) -> None:
        super().__init__()
        self.plain = plain
        self.rows = rows_ND
        self.register_buffer("added_N", added_N, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The matrix of the wrapped module. Its added rows are out of date during training."""
        return self.plain.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of every id; those of added tokens come from `rows`."""
        # The bias stays in the wrapped module and trains, or not, with it.
        bias = None if self.plain.bias is None else self.plain.bias[self.added_N]
        added = nn.functional.linear(hidden, self.rows, bias)
        base: Tensor = self.plain(hidden)
        return base.index_copy(-1, self.added_N, added)


def insert_row_modules(model: Any, added: Sequence[int]) -> dict[str, nn.Parameter]:
    """Replace embedding and head by row modules; return the added rows as parameters by name.

    Where embedding and head are tied, they share one parameter. Raises `ModelError` if separate
    rows would not be read as rows of the matrix are.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embedding.weight
    added_N = torch.tensor(sorted(added), device=embedding.weight.device)
    check_embed_rows(embedding, added_N)
    places_V = torch.full((len(embedding.weight),), -1, device=embedding.weight.device)
    places_V[added_N] = torch.arange(len(added_N), device=embedding.weight.device)
    rows = nn.Parameter(embedding.weight.detach()[added_N].clone())
    parameters = {"added_rows.input": rows}
    model.set_input_embeddings(RowsEmbedding(embedding, rows, places_V))
    if head is not None:
        if not tied:
            rows = nn.Parameter(head.weight.detach()[added_N].clone())
            parameters["added_rows.output"] = rows
        model.set_output_embeddings(RowsHead(head, rows, added_N))
    return parameters


@torch.no_grad()
def remove_row_modules(model: Any) -> None:
    """Undo `insert_row_modules` and write the trained rows into the matrices.

    A model without row modules does not change.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, RowsEmbedding):
        return
    added_N = torch.nonzero(embedding.places_V >= 0).squeeze(-1)
    embedding.plain.weight[added_N] = embedding.rows[embedding.places_V[added_N]]
    model.set_input_embeddings(embedding.plain)
    if head is not None:
        head.plain.weight[added_N] = head.rows
        model.set_output_embeddings(head.plain)
