"""Rows of new tokens in the further tables with a row for each id: stated rules, one for each kind of table.

A copy of the embedding or of the head (multi-token prediction) gets the same rows where it is equal to it, and the mean
of the pieces' own rows where it is not. Per-layer embeddings get the mean of the pieces. A routing table gets the
experts that most of the pieces are routed to. Suffixes: N new tokens, D width, K experts of a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lingraft.checkpoint.find_embeddings import EmbeddingNames, VocabularyTable, same_numbers
from lingraft.checkpoint.row_request import InitRows
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.splice import AddedToken, Splice

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TableRows:
    """The rows of new tokens in one table, the row that fills up, and how they were made."""

    added: Tensor
    padding: Tensor
    how: str


def table_rows(
    checkpoint: Checkpoint, names: EmbeddingNames, splice: Splice, made: Mapping[str, InitRows]
) -> dict[str, TableRows]:
    """Return the rows of every further table by its name; `made` are those of the embeddings.

    Padding repeats row 0: that is what Gemma 3n reads for ids beyond its per-layer table.
    """
    found = {}
    for table in names.tables:
        matrix = checkpoint.tensor(table.name)
        padding = matrix[0].clone()
        main = _equal_matrix(checkpoint, names, table)
        if main is not None:
            found[table.name] = TableRows(
                made[main].rows, padding, f"the rows of the {main} embedding"
            )
        elif table.rule == "majority of the pieces":
            found[table.name] = TableRows(majority_rows(matrix, splice.added), padding, table.rule)
        else:
            found[table.name] = TableRows(
                mean_rows(matrix, splice.added), padding, "mean of the pieces"
            )
    return found


def _equal_matrix(
    checkpoint: Checkpoint, names: EmbeddingNames, table: VocabularyTable
) -> str | None:
    """Return the embedding that a table is a copy of, to the bit, or none."""
    if table.rule not in {"input", "output"}:
        return None
    side = "output" if table.rule == "output" and names.output else "input"
    main = names.output if side == "output" else names.input
    return side if same_numbers(checkpoint, main[0], table.name) else None


def mean_rows(matrix: Tensor, tokens: Sequence[AddedToken]) -> Tensor:
    """Return the mean of the rows of each token's pieces, in float32."""
    import torch

    rows = torch.empty((len(tokens), *matrix.shape[1:]), dtype=torch.float32)
    for number, token in enumerate(tokens):
        rows[number] = _entries(matrix, token).double().mean(dim=0).float()
    return rows


def _entries(table: Tensor, token: AddedToken) -> Tensor:
    """Return the rows of a token's pieces; a piece beyond a shorter table reads row 0, as the model does."""
    return table[[piece if piece < len(table) else 0 for piece in token.pieces]]


def majority_rows(table: Tensor, tokens: Sequence[AddedToken]) -> Tensor:
    """Return for each token the K experts that most of its pieces are routed to, the most frequent first.

    Ties go to the expert that is met first. A row of distinct experts gives a row of distinct experts.

    >>> import torch
    >>> table = torch.tensor([[0, 1], [2, 1], [2, 3]])
    >>> majority_rows(table, [AddedToken(3, b"ab", (0, 1, 2))]).tolist()
    [[1, 2]]
    """
    import torch

    rows = torch.empty((len(tokens), *table.shape[1:]), dtype=table.dtype)
    for number, token in enumerate(tokens):
        entries = _entries(table, token)
        votes = Counter(int(expert) for expert in entries.reshape(-1))
        wanted = entries[0].numel()
        experts = [expert for expert, _ in votes.most_common(wanted)]
        experts += [int(expert) for expert in entries[0].reshape(-1)][len(experts) :]
        rows[number] = torch.tensor(experts, dtype=table.dtype).reshape(table.shape[1:])
    return rows
