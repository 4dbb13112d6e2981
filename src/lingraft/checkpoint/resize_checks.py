"""The checks of a resize: the tokenizer fits the model, and the new rows are usable.

`check_fit` refuses a tokenizer or a splice that does not belong to the model. `check_rows` refuses
rows that an initialisation got wrong. `untrained_row_warnings` collects warnings on rows that
were never trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.checkpoint.find_embeddings import EmbeddingNames
from lingraft.checkpoint.resized_tensors import ResizePlan
from lingraft.checkpoint.row_request import InitRequest, InitRows
from lingraft.checkpoint.weight_checks import row_warnings
from lingraft.errors import ModelError, TokenizerError
from lingraft.splice import Splice
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.separators import separators_of

if TYPE_CHECKING:
    from torch import Tensor


def check_fit(names: EmbeddingNames, splice: Splice, folder: Path) -> None:
    """Raise `ModelError` where a splice does not fit a model; `folder` is for the message."""
    if splice.source_size > names.rows:
        msg = (
            f"the tokenizer does not fit the model: the source tokenizer has "
            f"{splice.source_size:,} ids, while {folder} has {names.rows:,} rows in "
            f"{names.input[0]}; give the model's own tokenizer"
        )
        raise ModelError(msg)
    beyond = names.rows - names.vocabulary
    if beyond > 0 and splice.source_size <= names.vocabulary:
        msg = (
            f"{folder}: {names.input[0]} has {beyond} rows beyond the vocabulary for which the "
            f"tokenizer has no ids, and new tokens would get their places; {names.architecture} "
            f"cannot be extended"
        )
        raise ModelError(msg)
    _check_reserved_ids(names, splice, folder)
    if names.multimodal and not splice.is_extension:
        msg = (
            f"{folder}: {names.architecture} is multimodal, and its processor refers to tokens by "
            f"id; tokens can be added to it, not dropped"
        )
        raise ModelError(msg)


def check_tokenizer(splice: Splice, folder: Path, tokenizer_folder: Path) -> None:
    """Raise `ModelError` where an extended tokenizer does not fit a splice of a model folder."""
    size = open_tokenizer(tokenizer_folder).size
    if size != splice.target_size:
        msg = (
            f"the tokenizer does not fit the splice: {tokenizer_folder} has {size:,} ids, while "
            f"the splice names {splice.target_size:,}; both must come from the same extension of "
            f"{folder}"
        )
        raise ModelError(msg)


def _check_reserved_ids(names: EmbeddingNames, splice: Splice, folder: Path) -> None:
    """Raise `ModelError` where an added token would get an id that the model reserves."""
    if names.first_reserved is None:
        return
    for token in splice.added:
        if token.id >= names.first_reserved:
            msg = (
                f"{folder}: {names.architecture} reserves the ids from {names.first_reserved:,} on "
                f"for images and sound, and the first new token would be {token.id:,}; extend its "
                f"language model, saved alone as a text model"
            )
            raise ModelError(msg)


def check_rows(init_rows: InitRows, request: InitRequest) -> InitRows:
    """Return the rows if every added token has a finite row with an origin.

    Raises `ModelError` otherwise. The rows of a method that changes the base's rows must be finite
    too.
    """
    expected = (len(request.splice.added), request.matrix.shape[1])
    if tuple(init_rows.rows.shape) != expected or len(init_rows.origins) != expected[0]:
        msg = (
            f"rows of shape {expected} are needed, but the method returned "
            f"{tuple(init_rows.rows.shape)} with {len(init_rows.origins)} origins"
        )
        raise ValueError(msg)
    # Checked in the dtype of the file: a large float32 number becomes inf in float16.
    dtype = request.matrix.dtype
    finite = init_rows.rows.to(dtype).isfinite().all(dim=1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        token = request.splice.added[first]
        msg = (
            f"the {request.side} row of token {token.id} ({token.text!r}, "
            f"{init_rows.origins[first]}) is not finite in {dtype}; choose another initialisation"
        )
        raise ModelError(msg)
    if init_rows.base is not None and not bool(init_rows.base.to(dtype).isfinite().all()):
        msg = (
            f"the {request.side} rows of the base are not finite after training; lower the "
            f"learning rate of the initialisation"
        )
        raise ModelError(msg)
    return init_rows


def untrained_row_warnings(
    plan: ResizePlan,
    init_rows: Mapping[str, InitRows],
    norms: Mapping[str, Tensor | None],
    tokenizer: ModelTokenizer | None,
) -> list[str]:
    """Return warnings on rows that were never trained, once for each distinct matrix.

    `norms` are the row norms of each tensor (`finite_norms`). Without a tokenizer, the tokens
    between documents are not known and not checked.
    """
    first_tokens: dict[str, int] = {}
    last_tokens: dict[str, int] = {}
    if tokenizer is not None:
        first_tokens, last_tokens = _separator_ids(tokenizer, plan.splice.source_size)
    source_norms: dict[str, Tensor] = {}
    stored_rows: dict[str, InitRows] = {}
    separators: dict[str, dict[str, int]] = {}
    for side, stored_names in (("input", plan.names.input), ("output", plan.names.output)):
        if side not in init_rows:
            continue
        name = stored_names[0]
        tensor_norms = norms[name]
        if tensor_norms is None:
            continue
        source_norms[name] = tensor_norms[: plan.splice.source_size]
        rows = init_rows[side].rows.to(plan.source_rows(name).dtype)
        stored_rows[name] = replace(init_rows[side], rows=rows)
        # The output row of BOS is not needed: no document continues with the token that begins one.
        separators[name] = {**first_tokens, **last_tokens} if side == "input" else last_tokens
    return row_warnings(source_norms, stored_rows, plan.splice, separators)


def _separator_ids(tokenizer: ModelTokenizer, size: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return the ids of the tokens that begin and that end documents, by role.

    In a chat model the token that ends a document is not EOS, which ends a turn.
    """
    before, after = tokenizer.bos_id, tokenizer.eos_id
    # Packing reports a tokenizer without separators; a resize works without them.
    with suppress(TokenizerError):
        before, after = separators_of(tokenizer).ids(tokenizer)
    first_tokens, last_tokens = {}, {}
    if before is not None and before < size:
        role = "bos_token" if before == tokenizer.bos_id else "the token before documents"
        first_tokens[role] = before
    if after is not None and after < size:
        role = "eos_token" if after == tokenizer.eos_id else "the token after documents"
        last_tokens[role] = after
    return first_tokens, last_tokens
