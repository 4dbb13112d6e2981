"""Weights are looked at before they are used: numbers that are not finite, and rows that were never trained.

NaN or inf in one row spreads: averaged with others it makes every new row NaN, and in a tensor of the body it makes
every logit NaN. Tables with a row for each id are read in pieces, at 1.2 GB/s on one core; the body is looked at where
it is read anyway, when a model is opened to run or to train. Suffixes: V rows, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.row_request import InitRows
from lingraft.checkpoint.safetensors_files import FLOATS, Checkpoint, blocks
from lingraft.errors import ModelError
from lingraft.splice import Splice

if TYPE_CHECKING:
    from torch import Tensor

SHORT = 0.1
"""A separator whose row is shorter than this part of the median row is warned of.

The shortest row of any token is 0.54 of the median in TinyStories 260K, 0.57 in SmolLM2-135M and 0.30 in an 8M model
trained here: what is far below was not trained.
"""

NAMED = 5
"""So many tokens are named in a warning."""

SOURCE_IS_BROKEN = "the weights are damaged: fetch or save the model again"


def check_finite(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Raise `ModelError`, with tensor and row, where one of these tensors holds NaN or inf."""
    for name in names:
        finite_norms(checkpoint, name)


def finite_norms(checkpoint: Checkpoint, name: str) -> Tensor | None:
    """Return the norm of every row, [V] in float32, `None` for a table of integers; raises `ModelError` for NaN or inf.

    A tensor with one dimension has rows of one number.
    """
    import torch

    place = checkpoint.tensors[name]
    if place.dtype not in FLOATS:
        return None
    dtype = torch.float64 if place.dtype == "F64" else torch.float32
    found, begin = [], 0
    for block in blocks(checkpoint.tensor(name), rows=1024):
        rows = block.reshape(len(block), -1)
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=dtype)
        if not bool(norms.isfinite().all()):  # the norm of large finite numbers can be inf as well
            check_finite_tensor(rows, f"{place.file.resolve()}: {name}", first_row=begin)
        found.append(norms.float())
        begin += len(block)
    return torch.cat(found) if found else torch.zeros(0)


def check_finite_model(model: Any, folder: object) -> None:
    """Raise `ModelError` where a parameter of an opened model holds NaN or inf."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not parameter.is_meta:
            check_finite_tensor(parameter.detach(), f"{folder}: {name}")


def check_finite_tensor(
    tensor: Tensor, where: str, *, first_row: int = 0, advice: str = SOURCE_IS_BROKEN
) -> None:
    """Raise `ModelError` with the first row of a tensor that holds NaN or inf; the sum is finite where all numbers are.

    Half-precision numbers are added up in float32, whose sum of fewer than 1e30 of them cannot overflow.
    """
    import torch

    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    if bool(tensor.sum(dtype=dtype).isfinite()):
        return
    rows = tensor.reshape(tensor.shape[0], -1) if tensor.dim() else tensor.reshape(1, 1)
    bad = (~rows.isfinite().all(dim=1)).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        kind = "NaN" if bool(rows[row].isnan().any()) else "inf"
        more = f" (and {len(bad) - 1:,} more rows)" if len(bad) > 1 else ""
        msg = f"{where} holds {kind} in row {first_row + row}{more}; {advice}"
        raise ModelError(msg)


def row_warnings(
    norms: Mapping[str, Tensor],
    made: Mapping[str, InitRows],
    splice: Splice,
    separators: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """Return what has to be known of the rows that new ones are made of, of the new ones, and of the separators.

    All by the name of the tensor: `norms` are those of the source's rows, `made` the new rows in the data type that
    they are stored in, `separators` the ids of the tokens between documents by their roles.
    """
    warnings = []
    for name, norms_V in norms.items():
        warnings += _zero_pieces(name, norms_V, splice)
        warnings += _zero_new_rows(name, made[name], splice)
        warnings += _short_separators(name, norms_V, separators[name])
    return warnings


def _zero_pieces(name: str, norms_V: Tensor, splice: Splice) -> list[str]:
    pieces = sorted({piece for token in splice.added for piece in token.pieces})
    zero = [
        piece for piece, norm in zip(pieces, norms_V[pieces].tolist(), strict=True) if norm == 0
    ]
    if not zero:
        return []
    of_zero = set(zero)
    made_of_them = sum(not of_zero.isdisjoint(token.pieces) for token in splice.added)
    msg = (
        f"{name}: {len(zero):,} of the {len(pieces):,} base rows that new rows are averaged from are zero (ids "
        f"{_listing(zero)}), and {made_of_them:,} of {len(splice.added):,} new tokens have such a piece; their rows "
        "are the shorter for it: train them, or choose an initialisation that does not average pieces (focus)"
    )
    return [msg]


def _zero_new_rows(name: str, made: InitRows, splice: Splice) -> list[str]:
    zero = (made.rows == 0).all(dim=1).nonzero().flatten().tolist()
    if not zero:
        return []
    tokens = [f"{splice.added[number].id} '{splice.added[number].text}'" for number in zero]
    msg = (
        f"{name}: {len(zero):,} of {len(splice.added):,} new rows are zero ({_listing(tokens)}); train them, or "
        "choose an initialisation that does not average pieces (focus)"
    )
    return [msg]


def _short_separators(name: str, norms_V: Tensor, separators: Mapping[str, int]) -> list[str]:
    warnings = []
    median = float(norms_V.median())
    for role, number in separators.items():
        norm = float(norms_V[number])
        if norm < SHORT * median:
            length = (
                "is zero"
                if norm == 0
                else f"has a norm of {norm:.2g}, {norm / median:.1%} of the median"
            )
            warnings.append(
                f"{name}: the row of {role} (id {number}), which separates documents, {length}; the base was not "
                "trained with it: name another token with training.packing.separator, or expect the first steps of "
                "training to be rough"
            )
    return warnings


def _listing(values: Sequence[object]) -> str:
    shown = ", ".join(map(str, values[:NAMED]))
    return f"{shown}, ..." if len(values) > NAMED else shown
