"""Rows of added tokens in tables other than the input and output embedding.

Some architectures have more tables with a row for each id. Each kind has its own rule:
- A copy of the embedding or of the head (multi-token prediction) gets the same rows if it is equal
  to it, otherwise the mean of its own rows for the subtokens.
- Per-layer embeddings get the mean of the subtokens' rows.
- A routing table gets the experts that most of the subtokens are routed to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lingraft.checkpoint.find_embeddings import EmbeddingNames, same_numbers
from lingraft.checkpoint.row_request import InitRows
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.checkpoint.vocabulary_tables import VocabularyTable
from lingraft.splice import AddedToken, Splice

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TableRows:
    """The rows of added tokens in one table, its padding row, and how the rows were made."""

    added: Tensor
    padding: Tensor
    how: str


def table_rows(
    checkpoint: Checkpoint, names: EmbeddingNames, splice: Splice, init_rows: Mapping[str, InitRows]
) -> dict[str, TableRows]:
    """Return the rows of every other table by its name; `init_rows` are those of the embeddings."""
    rows: dict[str, TableRows] = {}
    for table in names.tables:
        matrix = checkpoint.tensor(table.name)
        # Gemma 3n reads row 0 for ids beyond its per-layer table, so padding repeats it.
        padding = matrix[0].clone()
        side = _equal_embedding(checkpoint, names, table)
        if side is not None:
            added, how = init_rows[side].rows, f"the rows of the {side} embedding"
        elif table.rule == "majority of the pieces":
            added, how = majority_rows(matrix, splice.added), table.rule
        else:
            added, how = mean_rows(matrix, splice.added), "mean of the pieces"
        rows[table.name] = TableRows(added, padding, how)
    return rows


def _equal_embedding(
    checkpoint: Checkpoint, names: EmbeddingNames, table: VocabularyTable
) -> str | None:
    """Return the side ("input" or "output") whose matrix equals a table in all numbers, or None."""
    if table.rule not in {"input", "output"}:
        return None
    side = "output" if table.rule == "output" and names.output else "input"
    matrix = names.output[0] if side == "output" else names.input[0]
    return side if same_numbers(checkpoint, matrix, table.name) else None


def mean_rows(matrix: Tensor, tokens: Sequence[AddedToken]) -> Tensor:
    """Return the mean of the rows of each token's subtokens, in float32."""
    import torch

    rows = torch.empty((len(tokens), *matrix.shape[1:]), dtype=torch.float32)
    for number, token in enumerate(tokens):
        rows[number] = _subtoken_rows(matrix, token).double().mean(dim=0).float()
    return rows


def _subtoken_rows(table: Tensor, token: AddedToken) -> Tensor:
    """Return the rows of a token's subtokens; an id beyond a shorter table reads row 0."""
    return table[[piece if piece < len(table) else 0 for piece in token.pieces]]


def majority_rows(table: Tensor, tokens: Sequence[AddedToken]) -> Tensor:
    """Return for each token the experts that most of its subtokens are routed to.

    The most frequent expert comes first; ties go to the expert that occurs first. The result has as
    many experts as a row of `table`, and they are distinct if those of each row are.

    >>> import torch
    >>> table = torch.tensor([[0, 1], [2, 1], [2, 3]])
    >>> majority_rows(table, [AddedToken(3, b"ab", (0, 1, 2))]).tolist()
    [[1, 2]]
    """
    import torch

    rows = torch.empty((len(tokens), *table.shape[1:]), dtype=table.dtype)
    for number, token in enumerate(tokens):
        subtoken_rows = _subtoken_rows(table, token)
        votes = Counter(map(int, subtoken_rows.reshape(-1)))
        first_row = list(map(int, subtoken_rows[0].reshape(-1)))
        experts = [expert for expert, _ in votes.most_common(len(first_row))]
        # Rows that repeat an expert can have fewer distinct experts than places.
        experts += first_row[len(experts) :]
        rows[number] = torch.tensor(experts, dtype=table.dtype).reshape(table.shape[1:])
    return rows
