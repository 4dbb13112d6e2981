"""Check weights before they are used: NaN, inf, and rows that were never trained.

NaN or inf in one row spreads. Averaged with others it makes every new row NaN, and in a tensor of
the body it makes every logit NaN. Tables with a row for each id are read in blocks, at 1.2 GB/s on
one core. The body is checked when a model is loaded to run or to train, because it is read then.

Shape suffixes: V rows.
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

SHORT_ROW = 0.1
"""A separator gets a warning where the norm of its row is below this share of the median norm.

The shortest row of any token is 0.54 of the median in TinyStories 260K, 0.57 in SmolLM2-135M and
0.30 in an 8M model trained with lingraft. A row far below these was not trained.
"""

MAX_NAMED = 5
"""The number of tokens that a warning names."""

DAMAGED = "the weights are damaged: download or save the model again"


def check_finite(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Raise `ModelError`, with tensor and row, where any of these tensors holds NaN or inf."""
    for name in names:
        finite_norms(checkpoint, name)


def finite_norms(checkpoint: Checkpoint, name: str) -> Tensor | None:
    """Return the norm of every row, [V] in float32; `None` for a table of integers.

    A tensor with one dimension has rows of one number. Raises `ModelError` for NaN or inf.
    """
    import torch

    place = checkpoint.tensors[name]
    if place.dtype not in FLOATS:
        return None
    dtype = torch.float64 if place.dtype == "F64" else torch.float32
    norms_of_blocks, begin = [], 0
    for block in blocks(checkpoint.tensor(name), rows=1024):
        rows = block.reshape(len(block), -1)
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=dtype)
        # The norm of large finite numbers can be inf as well, so the numbers themselves decide.
        if not bool(norms.isfinite().all()):
            # The file of a model in memory is its label, which is no path.
            file = place.file.resolve() if place.file.exists() else place.file
            check_finite_tensor(rows, f"{file}: {name}", first_row=begin)
        norms_of_blocks.append(norms.float())
        begin += len(block)
    return torch.cat(norms_of_blocks) if norms_of_blocks else torch.zeros(0)


def check_finite_model(model: Any, folder: object) -> None:
    """Raise `ModelError` where a parameter of a loaded model holds NaN or inf."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not parameter.is_meta:
            check_finite_tensor(parameter.detach(), f"{folder}: {name}")


def check_finite_tensor(
    tensor: Tensor, where: str, *, first_row: int = 0, advice: str = DAMAGED
) -> None:
    """Raise `ModelError` with the first row of a tensor that holds NaN or inf."""
    import torch

    # The sum is finite only if every number is, and it needs no boolean tensor of the same size.
    # The sum of fewer than 1e30 half-precision numbers cannot overflow in float32.
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    if bool(tensor.sum(dtype=dtype).isfinite()):
        return
    # A sum of large finite numbers can overflow as well, so the numbers themselves decide.
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
    init_rows: Mapping[str, InitRows],
    splice: Splice,
    separators: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """Return warnings on zero source rows, zero added rows, and separators that were not trained.

    All arguments are by the name of the tensor: `norms` of the source's rows, `init_rows` in the
    dtype of the file, `separators` the ids of the tokens between documents by role.
    """
    warnings = []
    for name, norms_V in norms.items():
        warnings += _warn_of_zero_subtokens(name, norms_V, splice)
        warnings += _warn_of_zero_added_rows(name, init_rows[name], splice)
        warnings += _warn_of_short_separators(name, norms_V, separators[name])
    return warnings


def _warn_of_zero_subtokens(name: str, norms_V: Tensor, splice: Splice) -> list[str]:
    """Return a warning where added rows are averaged from zero rows."""
    subtokens = sorted({piece for token in splice.added for piece in token.pieces})
    zero: list[int] = []
    for subtoken, norm in zip(subtokens, norms_V[subtokens].tolist(), strict=True):
        if norm == 0:
            zero.append(subtoken)
    if not zero:
        return []
    # A set, because every piece of every added token is looked up.
    zero_set = set(zero)
    affected = sum(not zero_set.isdisjoint(token.pieces) for token in splice.added)
    msg = (
        f"{name}: {len(zero):,} of the {len(subtokens):,} base rows that new rows are averaged "
        f"from are zero (ids {_list_first(zero)}), and {affected:,} of {len(splice.added):,} new "
        f"tokens have such a subtoken, which makes their rows shorter: train them, or choose an "
        f"initialisation that does not average subtokens (focus)"
    )
    return [msg]


def _warn_of_zero_added_rows(name: str, init_rows: InitRows, splice: Splice) -> list[str]:
    """Return a warning where added rows are zero."""
    zero = (init_rows.rows == 0).all(dim=1).nonzero().flatten().tolist()
    if not zero:
        return []
    tokens = [f"{splice.added[number].id} '{splice.added[number].text}'" for number in zero]
    msg = (
        f"{name}: {len(zero):,} of {len(splice.added):,} new rows are zero "
        f"({_list_first(tokens)}); train them, or choose an initialisation that does not average "
        f"subtokens (focus)"
    )
    return [msg]


def _warn_of_short_separators(
    name: str, norms_V: Tensor, separators: Mapping[str, int]
) -> list[str]:
    """Return a warning for each separator whose row was not trained."""
    warnings = []
    median = float(norms_V.median())
    for role, token_id in separators.items():
        norm = float(norms_V[token_id])
        if norm >= SHORT_ROW * median:
            continue
        length = "is zero"
        if norm:
            length = f"has a norm of {norm:.2g}, {norm / median:.1%} of the median"
        warnings.append(
            f"{name}: the row of {role} (id {token_id}), which separates documents, {length}; the "
            f"base was not trained with it: name another token with training.packing.separator, "
            f"or expect a high loss in the first steps of training"
        )
    return warnings


def _list_first(values: Sequence[object]) -> str:
    shown = ", ".join(map(str, values[:MAX_NAMED]))
    return f"{shown}, ..." if len(values) > MAX_NAMED else shown
