"""Compare the weights that came back with those that were handed over.

Every tensor is read in blocks. Both sides are compared in the data type of the returned
tensor, so that a model that was only saved in another type counts as unchanged.

Shape suffixes: V rows, N numbers of a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.bases.folder import read_config
from lingraft.checkpoint.config_files import text_parts
from lingraft.checkpoint.find_embeddings import embedding_names, same_numbers
from lingraft.checkpoint.resized_tensors import ROW_MULTIPLE
from lingraft.checkpoint.rewrite import NewTensor, Range, bytes_of
from lingraft.checkpoint.safetensors_files import (
    FLOATS,
    Checkpoint,
    TensorPlace,
    map_tensor,
    torch_dtype,
)
from lingraft.checkpoint.weight_checks import SHORT_ROW, check_finite_tensor, finite_norms
from lingraft.errors import ModelError
from lingraft.pipeline.received import Frozen
from lingraft.splice import Splice
from lingraft.trainers.compared_weights import ComparedWeights, listed
from lingraft.trainers.returned_names import match_names

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 4096  # rows compared at a time, which bounds the memory
_FIRST_ROWS = 256  # rows of each matrix that show whether the body is another one

MIN_COSINE = 0.02
"""Below this cosine similarity with the matrices handed over, a body was not trained from them.

It is 0.99 after 4 MB of Hindi on english-8m, and within four standard deviations of 0 for unrelated
weights. Very long training from random weights was not measured.
"""


def compare_weights(
    returned: Checkpoint,
    extended: Path,
    splice: Splice,
    *,
    separators: Mapping[str, int],
    unread: int | None = None,
    frozen: Frozen = "nothing",
) -> ComparedWeights:
    """Compare a returned checkpoint with the model that was handed over.

    `separators` are the ids of the tokens between documents, by content. `unread` is one of them
    that no prediction depends on, so that its input embedding does not train. `frozen` is what the
    recipe does not train.
    """
    before = Checkpoint.open(extended)
    compared = ComparedWeights(embedding_names(before))
    match_names(compared, returned, before, splice)
    if compared.is_refused:
        return compared  # of another model, every further difference would be noise
    for name, place in returned.tensors.items():
        handed = compared.renamed.get(name, name)
        old = before.tensors.get(compared.names.input[0] if name == compared.head else handed)
        if old is not None and _same_shape(compared, place, old, splice):
            _compare(compared, place, old, splice)
    if not compared.is_refused:
        _judge_origin(compared, returned, before)
        _judge_head(compared, returned)
        _judge_changes(compared, splice, frozen)
        _judge_separators(compared, returned, before, separators, splice, unread=unread)
    return compared


def _same_shape(
    compared: ComparedWeights, place: TensorPlace, old: TensorPlace, splice: Splice
) -> bool:
    """Check the shape of a tensor, and plan how one with a row for each id gets its rows back."""
    if place.shape == old.shape:
        return True
    if not compared.is_table(place.name) or place.shape[1:] != old.shape[1:]:
        what = f"has the shape {list(place.shape)}, handed over as {list(old.shape)}"
        compared.find("another model", place.name, what, "refused")
        return False
    rows, wanted = place.shape[0], old.shape[0]
    what = f"{rows:,} rows, handed over with {wanted:,}"
    if rows < splice.target_size:
        what += f": the rows of {splice.target_size - rows:,} tokens are missing"
        compared.find("padded rows", place.name, what, "refused")
        return False
    segments: list[Range | memoryview] = [
        Range(place.begin, place.begin + min(rows, wanted) * place.row_bytes)
    ]
    if rows < wanted:
        padding = Checkpoint.open(old.file.parent).tensor(old.name)[rows:]
        segments.append(bytes_of(padding.to(torch_dtype(place.dtype))))
    compared.resized[place.name] = NewTensor((wanted, *old.shape[1:]), segments)
    compared.find("padded rows", place.name, what, "repaired")
    if rows % ROW_MULTIPLE and not wanted % ROW_MULTIPLE:
        compared.find("rows not a multiple of 64", place.name, f"{rows:,} rows", "repaired")
    return True


def _compare(
    compared: ComparedWeights, place: TensorPlace, old: TensorPlace, splice: Splice
) -> None:
    """Compare a tensor with its former state, and look for NaN and inf."""
    import torch

    kept = min(place.shape[0], old.shape[0]) if place.shape else 0
    masks, begin = [], 0
    for block, old_block in _blocks(place, old, kept):
        where = f"{place.file.name}: {place.name}"
        try:
            if place.dtype in FLOATS:
                check_finite_tensor(block, where, first_row=begin, advice="")
        except ModelError as error:
            what = str(error).removeprefix(f"{where} ").removesuffix("; ")
            compared.find("damaged weights", where, what, "refused")
            return
        masks.append(_differing_rows(block, old_block))
        begin += len(block)
    changed = torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool)
    if compared.is_table(place.name):
        compared.changed_rows[place.name] = changed[: splice.target_size]
    elif bool(changed.any()):
        compared.changed.append(place.name)
    else:
        compared.unchanged.append(place.name)


def _blocks(place: TensorPlace, old: TensorPlace, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield both tensors in blocks of rows, in the data type of the first."""
    tensor, before = map_tensor(place), map_tensor(old)
    if not place.shape:
        yield tensor.reshape(1, 1), before.reshape(1, 1).to(tensor.dtype)
        return
    for begin in range(0, rows, _BLOCK):
        end = min(begin + _BLOCK, rows)
        yield tensor[begin:end], before[begin:end].to(tensor.dtype)


def _differing_rows(block: Tensor, old_block: Tensor) -> Tensor:
    """Return for each row whether any of its bytes differ, [V]."""
    import torch

    first = block.reshape(len(block), -1).contiguous().view(torch.uint8)
    second = old_block.reshape(len(block), -1).contiguous().view(torch.uint8)
    return (first != second).any(dim=1)


def _judge_origin(compared: ComparedWeights, returned: Checkpoint, before: Checkpoint) -> None:
    """Refuse a body that was not trained from the one that was handed over.

    The first rows of each matrix are read again; norms and biases are alike in all models.
    """
    import torch

    product = squares = old_squares = numbers = 0.0
    for name in (*compared.changed, *compared.unchanged):
        place, old = returned.tensors[name], before.tensors[compared.renamed.get(name, name)]
        if len(place.shape) < 2 or place.dtype not in FLOATS:
            continue
        new_N, old_N = _first_numbers(place), _first_numbers(old)
        product += float(torch.dot(new_N, old_N))
        squares += float(torch.dot(new_N, new_N))
        old_squares += float(torch.dot(old_N, old_N))
        numbers += len(new_N)
    size = (squares * old_squares) ** 0.5
    if size and product / size < max(MIN_COSINE, 4 / numbers**0.5):
        cosine = max(0.0, product / size)
        what = f"the weights have the cosine similarity {cosine:.2f} with those handed over"
        compared.find("another model", "model.safetensors", what, "refused")


def _first_numbers(place: TensorPlace) -> Tensor:
    """Return the numbers of the first rows, over all dimensions but the last, in float32."""
    rows = map_tensor(place).reshape(-1, place.shape[-1])[:_FIRST_ROWS]
    return rows.reshape(-1).float()


def _judge_head(compared: ComparedWeights, returned: Checkpoint) -> None:
    """Compare a head that is stored next to the embedding with it, where both should be one."""
    names = compared.names
    if not names.tied:
        return
    candidates = [*map(compared.returned_name, names.input)]
    candidates += [compared.head] if compared.head else []
    *copies, head = [name for name in candidates if name in returned.tensors]
    if not copies or same_numbers(returned, copies[0], head):
        return
    what = f"differs from {copies[0]}, and the model was handed over with one matrix for both"
    if not (returned.folder / "config.json").is_file():
        # The config.json that was handed over takes its place, and ties them.
        what += "; without a config.json that unties them, the trained head would be dropped"
        compared.find("untied head", head, what, "refused")
        return
    settings = read_config(returned.folder)
    untied = text_parts(settings)[-1].get("tie_word_embeddings") is False
    untied = untied or settings.get("tie_word_embeddings") is False
    if untied:
        compared.find("untied head", head, f"{what}; config.json is untied, too", "kept")
        compared.is_untied = True
    else:
        what += "; config.json ties them, so that transformers drops the trained head"
        compared.find("untied head", head, what, "refused")


def _judge_changes(compared: ComparedWeights, splice: Splice, frozen: Frozen) -> None:
    """Say which parts trained, where that is not what training should do."""
    rows = sum(int(mask.sum()) for mask in compared.changed_rows.values())
    tensors = len(compared.changed) + len(compared.unchanged)
    if not rows and not compared.changed:
        what = f"all {tensors + len(compared.changed_rows):,} tensors are as they were handed over"
        compared.find("nothing trained", "model.safetensors", what, "refused")
        return
    ids = [token.id for token in splice.added]
    for name, mask in compared.changed_rows.items():
        if ids and mask.dim() and not bool(mask[ids].any()):
            what = f"0 of {len(ids):,} added rows changed, {int(mask.sum()):,} others did"
            compared.find("part not trained", name, what, "kept")
        base = mask.clone()
        base[ids] = False
        if frozen == "body and base rows" and bool(base.any()):
            what = f"{int(base.sum()):,} of {len(mask) - len(ids):,} rows of the base changed"
            compared.find("frozen part changed", name, what, "kept")
    if frozen != "nothing" and compared.changed:
        what = f"{len(compared.changed):,} of {tensors:,} tensors of the body changed"
        what += listed(compared.changed)
        compared.find("frozen part changed", "model.safetensors", what, "kept")
    if frozen == "nothing" and tensors and not compared.changed:
        what = f"0 of {tensors:,} tensors of the body changed, {rows:,} rows did"
        compared.find("part not trained", "model.safetensors", what, "kept")


def _judge_separators(
    compared: ComparedWeights,
    returned: Checkpoint,
    before: Checkpoint,
    separators: Mapping[str, int],
    splice: Splice,
    *,
    unread: int | None,
) -> None:
    """Say which tokens between documents have rows that are zero or did not train."""
    added = [token.id for token in splice.added]
    for name, mask in compared.changed_rows.items():
        handed = compared.renamed.get(name, name)
        if handed not in before.tensors or len(returned.tensors[name].shape) != 2:
            continue
        norms_V, old_norms_V = finite_norms(returned, name), finite_norms(before, handed)
        if norms_V is None or old_norms_V is None:
            continue
        median = float(norms_V.median())
        base = mask.clone()
        base[added] = False
        is_input_alone = handed in compared.names.input and not compared.names.tied
        for role, token_id in separators.items():
            may_stay = is_input_alone and token_id == unread
            norm, where = float(norms_V[token_id]), f"{name}, row {token_id} ({role})"
            if norm < SHORT_ROW * median <= float(old_norms_V[token_id]):
                what = "is zero" if not norm else f"has a norm of {norm:.2g}, median {median:.2g}"
                compared.find("EOS row not trained", where, what, "refused")
            elif bool(base.any()) and not bool(mask[token_id]) and not may_stay:
                what = f"did not change, {int(mask.sum()):,} of {len(mask):,} rows did"
                compared.find("EOS row not trained", where, what, "kept")
