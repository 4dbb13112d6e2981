"""`lingraft.resize` and `lingraft.init_embeddings`: embedding rows for the tokens of a splice.

Both call the methods that recipes name under `embeddings`. `resize` changes a model in memory as
`lingraft extend --model` writes it to files, bit for bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from lingraft.checkpoint.config_files import RESIZED_TO
from lingraft.checkpoint.embedding_resize import size_notes
from lingraft.checkpoint.model_resize import resize_model
from lingraft.checkpoint.model_tensors import ModelTensors, check_model, model_embedding_names
from lingraft.checkpoint.resize_checks import check_rows
from lingraft.checkpoint.row_request import InitRows, Side
from lingraft.checkpoint.weight_checks import check_finite_tensor
from lingraft.embeddings import EmbeddingInit
from lingraft.errors import ModelError, RecipeError, did_you_mean
from lingraft.library.arguments import check_number, check_seed
from lingraft.library.extension_results import TokenizerExtension
from lingraft.library.given_texts import Texts
from lingraft.library.row_inputs import AnySplice, RowInputs, TokenizerPair
from lingraft.library.row_origins import RowOrigins
from lingraft.progress import LogLine, send_lines_to
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.schema import EmbeddingSettings
from lingraft.recipe.tree import Tree
from lingraft.splice import Splice
from lingraft.store import WARNINGS

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from transformers import PreTrainedModel

Init: TypeAlias = str | Mapping[str, Any] | EmbeddingInit | EmbeddingSettings
"""A method (`"mean"`, `{"focus": {...}}`, `Focus(...)`), or `{"input": ..., "output": ...}`."""


def resize(
    model: PreTrainedModel,
    splice: Splice | TokenizerExtension,
    *,
    init: Init = "calibrated",
    texts: Texts | None = None,
    tokenizers: TokenizerPair | None = None,
    seed: int = 0,
    pad_to: int = 64,
    log: LogLine | None = None,
) -> RowOrigins:
    """Give a model the embedding rows of an extended vocabulary, in place.

    The input embedding, a separate output head with its bias, and every other table with a row for
    each id are resized; the rows of the source's ids stay bit-identical, unless the method trains
    them. Data type, device and `requires_grad` stay. The number of rows, `config.vocab_size`, is
    rounded up to a multiple of `pad_to` where it grows; padding ids are never generated. The result
    is the one that `lingraft extend --model` writes with the same settings.

    Args:
        model: a causal language model of transformers, unsharded and without adapters.
        splice: `extension.splice`, or the extension itself.
        init: how rows are made: a name or settings as under `embeddings` of a recipe, or a method
            of `lingraft.embeddings`. A tied model has one matrix, made by `input`.
        texts: documents for methods that read text (focus, align, distilled, learned).
        tokenizers: the source and the extended tokenizer, for a splice that was read from a file.
        seed: seed of methods that draw or train.
        pad_to: the number of rows becomes a multiple of it, unless the model has enough rows
            already: their number stays then.
        log: receives the lines of progress and the warnings. By default, they go to standard error.

    Create the optimizer after the resize: the state of one that has made a step has the old shape.
    Raises `ModelError` for a model that cannot be extended or that does not fit the splice; the
    model is unchanged then.

    >>> from lingraft import extend_tokenizer
    >>> from lingraft.library.example_model import example_model
    >>> model, tokenizer = example_model("en")  # or AutoModelForCausalLM.from_pretrained(...)
    >>> texts = [f"नदी के किनारे पेड़ {number}" for number in range(60)]
    >>> extension = extend_tokenizer(tokenizer, texts, size=12)
    >>> origins = resize(model, extension.splice, init="mean")
    >>> origins.rows_before, origins.rows, model.config.vocab_size
    (512, 576, 576)
    >>> row = origins.to_arrow().to_pylist()[0]
    >>> row["id"], row["origin"], len(row["source_ids"]) == len(row["weights"])
    (512, 'subtoken mean', True)
    """
    check_model(model)
    check_seed(seed)
    check_number(pad_to, "pad_to", at_least=1)
    inits = _settings(init)
    with send_lines_to(log):
        inputs = RowInputs.of(splice, tokenizers=tokenizers, texts=texts)
        _check_start(model, inputs.splice)
        tensors = ModelTensors.of(model)
        names = model_embedding_names(model, tensors)
        sides: dict[Side, EmbeddingInit] = {"input": inits.input}
        if not names.tied:
            sides["output"] = inits.output
        for method in sides.values():
            if method.needs_model and inputs.model_folder is None:
                inputs.save_model(model, method)
        source_rows = tensors.tensor(names.input[0])[: inputs.splice.source_size]
        request = inputs.request(source_rows, tied=names.tied, seed=seed, device=str(model.device))
        known = inputs.knows_tokenizers
        made = resize_model(
            model, tensors, names, sides, request, pad_to=pad_to, knows_tokenizer=known
        )
        setattr(model.config, RESIZED_TO, inputs.splice.target_size)
        notes = {**size_notes(made.plan), **made.notes}
        inputs.draft.note(notes)
    return RowOrigins(
        inputs.splice,
        made.init_rows,
        made.plan.layout.rows,
        names.rows,
        tuple(inputs.draft.notes.pop(WARNINGS, ())),
        inputs.draft.notes,
    )


def _check_start(model: PreTrainedModel, splice: Splice) -> None:
    """Raise `ModelError` if a resized model does not have the ids that the splice starts from.

    Its rows alone do not tell: a model may have more rows than ids. A second resize by the same
    splice would replace rows that were trained since.
    """
    ids = getattr(model.config, RESIZED_TO, None)
    rows = model.get_input_embeddings().weight.shape[0]
    # More ids than the splice starts from: rows of the splice are there already. Fewer are those of
    # a model that was extended by other means since. A model with fewer rows than ids only has a
    # configuration that another model changed.
    if ids is not None and splice.source_size < ids <= rows:
        msg = (
            f"model: was resized to {ids:,} ids before, and this splice starts from "
            f"{splice.source_size:,}; load the model again, or extend the extended tokenizer"
        )
        raise ModelError(msg)


def init_embeddings(
    splice: AnySplice,
    matrix: torch.Tensor | npt.NDArray[Any],
    init: str | Mapping[str, Any] | EmbeddingInit = "calibrated",
    *,
    side: Side = "input",
    tied: bool | None = None,
    texts: Texts | None = None,
    tokenizers: TokenizerPair | None = None,
    model: PreTrainedModel | None = None,
    seed: int = 0,
    device: str = "cpu",
    log: LogLine | None = None,
) -> InitRows:
    """Return rows for the tokens that a splice adds, from the matrix of the source model.

    Args:
        splice: an extension or its splice; or `(source, target)`, any two tokenizers, whose tokens
            are compared by their bytes: a token that both have keeps its row.
        matrix: the rows of the source's ids [V, D]; more rows (padding) are ignored.
        init: the method: a name, `{name: settings}`, or an object of `lingraft.embeddings`.
        side: "input", or "output" for a separate head, whose rows make the logits.
        tied: whether the matrix is both. By default, it is if `model` is given and ties them.
        texts: documents for methods that read text (focus, align, distilled, learned).
        tokenizers: the source and the target tokenizer, for a splice that was read from a file.
        model: the source model, for methods that run it (distilled, learned).
        seed: seed of methods that draw or train.
        device: where methods that run the model run it.
        log: receives the lines of progress and the warnings. By default, they go to standard error.

    The result has `rows` [A, D] in float32 for `splice.added` in that order, and for each row its
    origin and, in `mixture`, the source ids and weights that it is a sum of. Raises `ModelError`
    where the matrix does not fit or holds NaN or inf, and where an input of the method is missing.

    >>> import numpy as np
    >>> from lingraft.splice import AddedToken, identity_splice
    >>> splice = identity_splice(2, [AddedToken(2, b"ab", (0, 1))])
    >>> rows = init_embeddings(splice, np.array([[0.0, 2.0], [4.0, 0.0]]), "mean")
    >>> rows.rows.tolist(), rows.origins
    ([[2.0, 1.0]], ('subtoken mean',))
    """
    check_seed(seed)
    sides = get_args(Side)
    if side not in sides:
        msg = f"side: {side!r} is not known; {did_you_mean(str(side), sides)}"
        raise RecipeError(msg)
    inits = _settings(init)
    method = inits.output if side == "output" else inits.input
    with send_lines_to(log):
        inputs = RowInputs.of(splice, tokenizers=tokenizers, texts=texts)
        if method.needs_model:
            inputs.save_model(model, method)
        source_rows = _source_rows(matrix, inputs.splice)
        request = inputs.request(
            source_rows, side=side, tied=_is_tied(model, tied=tied), seed=seed, device=device
        )
        return check_rows(method.rows(request), request)


def _is_tied(model: PreTrainedModel | None, *, tied: bool | None) -> bool:
    """Return whether input and output are one matrix; raises `ModelError` if the model differs."""
    if model is None:
        return bool(tied)
    is_tied = model_embedding_names(model, ModelTensors.of(model)).tied
    # A tied model with two rows per token would keep only one of them.
    if tied is not None and tied != is_tied:
        ties = "ties its input and output" if is_tied else "has a separate output matrix"
        msg = f"tied: {tied}, but {type(model).__name__} {ties}; leave out `tied`"
        raise ModelError(msg)
    return is_tied


def _source_rows(matrix: torch.Tensor | npt.NDArray[Any], splice: Splice) -> torch.Tensor:
    """Return the rows of the source's ids; raises `ModelError` if one is missing or not finite."""
    import torch

    if isinstance(matrix, torch.nn.Module):
        msg = f"matrix: of type {type(matrix).__name__}; give its attribute `weight`"
        raise ModelError(msg)
    try:
        rows = torch.as_tensor(matrix).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"matrix: of type {type(matrix).__name__}; give a tensor or an array [ids, width]"
        raise ModelError(msg) from error
    if rows.dim() != 2 or len(rows) < splice.source_size:
        msg = (
            f"matrix: the shape is {list(rows.shape)}, while the source tokenizer has "
            f"{splice.source_size:,} ids; give one row for each id"
        )
        raise ModelError(msg)
    rows = rows[: splice.source_size]
    check_finite_tensor(rows, "matrix")
    return rows


def _settings(init: Init) -> EmbeddingSettings:
    """Return the methods of both matrices."""
    if isinstance(init, EmbeddingSettings):
        return init
    sides = set(get_args(Side))
    pair = dict(init) if isinstance(init, Mapping) and sides & init.keys() else None
    try:
        settings = parse_settings(Tree(pair or {"input": init}), EmbeddingSettings)
    except RecipeError as error:
        # One method has no name in Python; the schema calls it `input`.
        named = r"\1init.\2" if pair else r"\1init"
        # Not the heading of several problems, which begins with their number.
        text = re.sub(r"^( *)([a-z]\w*)", named, str(error), flags=re.MULTILINE)
        error.args = (text,)
        raise
    return settings if pair else EmbeddingSettings(input=settings.input, output=settings.input)
