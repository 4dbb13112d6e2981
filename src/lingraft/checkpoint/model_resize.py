"""Resize the embeddings of a model in memory, as `resize_embeddings` does it in files.

Both use the same plan, rows and checks. All of them come before the first change, so a model that
cannot be resized stays as it was. Parameters keep their identity: a tied matrix stays tied, and an
optimizer that has made no step yet still refers to them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.checkpoint.config_files import (
    BAD_WORDS,
    ID_LISTS,
    is_token_id,
    renumber_ids,
    suppressed_ids,
)
from lingraft.checkpoint.embedding_resize import ComputedRows, compute_rows
from lingraft.checkpoint.find_embeddings import EmbeddingNames
from lingraft.checkpoint.model_tensors import ModelTensors, model_shapes
from lingraft.checkpoint.resize_checks import check_fit
from lingraft.checkpoint.resized_tensors import ROW_MULTIPLE, ResizePlan
from lingraft.checkpoint.row_request import InitRequest, RowMaker, Side
from lingraft.checkpoint.vocabulary_tables import set_config_rows
from lingraft.errors import ModelError
from lingraft.splice import Splice


def resize_model(
    model: Any,
    tensors: ModelTensors,
    names: EmbeddingNames,
    inits: Mapping[Side, RowMaker],
    request: InitRequest,
    *,
    pad_to: int = ROW_MULTIPLE,
    knows_tokenizer: bool = True,
) -> ComputedRows:
    """Resize a model in place; return what was computed.

    `tensors` and `names` are those of the model. Raises `ModelError` where the splice does not fit
    the model, where a row is not finite, or where the architecture cannot be extended.
    """
    check_fit(names, request.splice, tensors.folder)
    made = compute_rows(tensors, names, inits, request, pad_to, knows_tokenizer=knows_tokenizer)
    _check_shapes(model, made)
    generation = getattr(model, "generation_config", None)
    _renumber_configs(model.config, generation, made.plan)
    for name, content in made.tensors.items():
        parameter = tensors.in_memory[name]
        # The content of the parameter is replaced, not the parameter: whoever refers to it (a tied
        # head, an optimizer) sees the new rows.
        parameter.data = content.in_memory(parameter.detach())
        parameter.grad = None
    _set_sizes(model, tensors, made)
    return made


def _check_shapes(model: Any, made: ComputedRows) -> None:
    """Raise `ModelError` where a resized tensor does not fit the model of the new configuration."""
    config = copy.deepcopy(model.config)
    _renumber_configs(config, None, made.plan)
    expected = model_shapes(model, config).state_dict()
    for name, content in made.tensors.items():
        before = made.plan.checkpoint.tensors[name].shape
        shape = (content.layout.rows, *before[1:])
        if name not in expected or tuple(expected[name].shape) != shape:
            needed = list(expected[name].shape) if name in expected else "no such tensor"
            msg = (
                f"{type(model).__name__}: {name} would have shape {list(shape)}, while the class "
                f"expects {needed} with the new vocabulary size; this architecture cannot be "
                "extended"
            )
            raise ModelError(msg)


def _renumber_configs(config: Any, generation: Any, plan: ResizePlan) -> None:
    """Write the number of rows, and the ids that the splice moves, into the configurations.

    `generation` is `None` where a model has no configuration of its generation.
    """
    where = plan.checkpoint.folder
    text = config.get_text_config(decoder=True)
    parts = [config] if text is config else [config, text]
    changed = [(part, _renumbered(part, plan.splice, where)) for part in parts]
    if generation is not None:
        changed.append((generation, _renumbered(generation, plan.splice, where)))
    # Nothing is written before all ids were found in the target.
    for part, ids in changed:
        for key, value in ids.items():
            setattr(part, key, value)
    set_config_rows(config, plan.layout.rows)
    if generation is not None:
        before = getattr(generation, "suppress_tokens", None) or []
        generation.suppress_tokens = suppressed_ids(before, plan.splice, plan.layout) or None


def _renumbered(part: Any, splice: Splice, where: Path) -> dict[str, Any]:
    """Return the special ids of a configuration object in the target; an extension moves none."""
    names = (*ID_LISTS, BAD_WORDS)
    ids = {key: value for key, value in vars(part).items() if is_token_id(key) or key in names}
    renumber_ids(ids, splice, where)
    return ids


def _set_sizes(model: Any, tensors: ModelTensors, made: ComputedRows) -> None:
    """Write the number of rows, and the row of the padding token, into the modules with them."""
    names, rows = made.plan.names, made.plan.layout.rows
    target_ids = {source: target for target, source in made.plan.splice.corresponding.items()}
    embeddings = (*names.input, *names.output)
    resized = {id(tensors.in_memory[name]) for name in embeddings}
    for module in model.modules():
        if any(id(parameter) in resized for parameter in module.parameters(recurse=False)):
            for size in ("num_embeddings", "out_features"):
                if hasattr(module, size):
                    setattr(module, size, len(module.weight))
            # torch gives this row no gradient: at the former id it would freeze another token.
            if getattr(module, "padding_idx", None) is not None:
                module.padding_idx = target_ids.get(module.padding_idx)
        # Many models compute their loss with this copy of the configuration's number.
        if vars(module).get("vocab_size") == names.vocabulary:
            module.vocab_size = rows
