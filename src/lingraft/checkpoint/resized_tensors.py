"""The new content of the tensors of a resized checkpoint, and the files that hold it.

`Layout` gives the origin of each row. A kept row is a range of the source file, an added row comes
from the initialisation, and padding rows fill up to a multiple of `pad_to`.

No padding id may ever be sampled:
- In a separate input matrix the padding rows are zero.
- In an output matrix (and in a tied matrix) they are the mean of all source rows. Their logit is
  the mean of the other logits, so it is never the highest, and by Jensen's inequality each padding
  id has a probability under 1/V.
- The bias of a head is -10,000 there.
- `config_files` adds the padding ids to `suppress_tokens`, a setting of generation.

Shape suffixes: V source rows, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.checkpoint.find_embeddings import EmbeddingNames
from lingraft.checkpoint.rewrite import NewTensor, rewrite
from lingraft.checkpoint.row_layout import Layout, ResizedRows, lay_out
from lingraft.checkpoint.row_request import InitRows
from lingraft.checkpoint.safetensors_files import Checkpoint, blocks, write_index
from lingraft.checkpoint.table_rows import TableRows
from lingraft.splice import Splice
from lingraft.store import link_or_copy

if TYPE_CHECKING:
    from torch import Tensor

ROW_MULTIPLE = 64
"""Rows are padded to a multiple of this by default: kernels and tensor parallelism want it."""

# Low enough for a probability of 0 in every dtype, and within the range of float16 (65,504).
BIAS_OF_PADDING = -1e4


@dataclass(frozen=True)
class ResizePlan:
    """A checkpoint, its embedding tensors, and the origin of each target row."""

    checkpoint: Checkpoint
    names: EmbeddingNames
    splice: Splice
    layout: Layout

    def source_rows(self, name: str) -> Tensor:
        """Return the rows of a tensor that belong to an id of the source tokenizer."""
        return self.checkpoint.tensor(name)[: self.splice.source_size]

    def layout_of(self, name: str) -> Layout:
        """Return the layout of one tensor, whose number of rows may differ from vocab_size.

        Rows beyond the vocabulary are kept (Mllama's input matrix has 8 for images). Rows that the
        tensor lacks become padding.
        """
        rows = self.checkpoint.tensors[name].shape[0]
        if rows == self.names.vocabulary:
            return self.layout
        rows_beyond = max(0, rows - self.names.vocabulary)
        # A padding multiple of 1, because the number of rows is given.
        return lay_out(self.splice, rows, 1, self.layout.rows + rows_beyond)


def resized_tensors(
    plan: ResizePlan, init_rows: Mapping[str, InitRows], tables: Mapping[str, TableRows]
) -> dict[str, ResizedRows]:
    """Return the new content of every tensor that has a row for each id."""
    tensors: dict[str, ResizedRows] = {}
    for side, stored_names in (("input", plan.names.input), ("output", plan.names.output)):
        for name in stored_names:
            tensors[name] = _resize_matrix(plan, name, side, init_rows[side])
    if plan.names.output_bias is not None:
        tensors[plan.names.output_bias] = _resize_bias(plan, plan.names.output_bias)
    for name, rows in tables.items():
        tensors[name] = ResizedRows(plan.layout_of(name), rows.added, rows.padding)
    return tensors


def _resize_matrix(plan: ResizePlan, name: str, side: str, init_rows: InitRows) -> ResizedRows:
    """Return the new content of an input or output matrix."""
    import torch

    layout, matrix_VD = plan.layout_of(name), plan.source_rows(name)
    separate_input = side == "input" and not plan.names.tied
    if separate_input or not layout.new_padding:
        padding = torch.zeros(matrix_VD.shape[1])
    else:
        # A zero row has logit 0, which is the highest whenever all other logits are negative.
        padding = mean_row(matrix_VD)
    return ResizedRows(layout, init_rows.rows, padding, init_rows.base)


def _resize_bias(plan: ResizePlan, name: str) -> ResizedRows:
    """Return the new content of the head's bias: the mean of the subtokens' biases."""
    import torch

    bias_V = plan.source_rows(name)
    means = [float(bias_V[list(token.pieces)].double().mean()) for token in plan.splice.added]
    added = torch.tensor(means, dtype=torch.float32)
    padding = torch.tensor(BIAS_OF_PADDING)
    return ResizedRows(plan.layout_of(name), added, padding)


def mean_row(matrix_VD: Tensor) -> Tensor:
    """Return the mean of all rows in float32."""
    import torch

    total = torch.zeros(matrix_VD.shape[1], dtype=torch.float64)
    # Summing each block in float32 takes half the time of float64; the totals are added in float64.
    for block in blocks(matrix_VD):
        total += block.float().sum(dim=0).double()
    return (total / matrix_VD.shape[0]).float()


def write_tensors(plan: ResizePlan, changed: Mapping[str, ResizedRows], output: Path) -> int:
    """Write every file of the checkpoint to `output`; return how many were linked, not written."""
    checkpoint = plan.checkpoint
    output.mkdir(parents=True, exist_ok=True)
    by_file: dict[Path, dict[str, NewTensor]] = {file: {} for file in checkpoint.files}
    for name, rows in changed.items():
        place = checkpoint.tensors[name]
        by_file[place.file][name] = rows.in_file(place)
    linked = 0
    for file, tensors in by_file.items():
        if tensors:
            rewrite(file, output / file.name, tensors)
        else:
            linked += link_or_copy(file, output / file.name)
    if checkpoint.index is not None:
        # The tensors stay in their files; only the sizes are new.
        write_index(output, checkpoint.index["weight_map"], checkpoint.index)
    return linked
