"""Which tensors of a checkpoint are its embeddings: asked of the architecture, not guessed from names.

transformers builds the model on the meta device (shapes without numbers), says which parameters are the input and the
output embeddings and whether they are one; their names are then found among those of the files, which may lack the
prefix of the body (`wte.weight` for `transformer.wte.weight`) or use the name of an earlier release (`embed_out` for
NeoX's `lm_head`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.checkpoint.tensor_files import Checkpoint
from lingraft.errors import ModelError
from lingraft.model_code import trust

EARLIER_NAMES = {"lm_head": ("embed_out", "output", "head")}


class TensorsNotFound(ModelError):  # noqa: N818 - said of the files, which may still be a whole model
    """The files hold no tensor under a name that the embeddings are known to have."""


@dataclass(frozen=True)
class EmbeddingNames:
    """The names, as the files have them, of the embedding tensors; `output` is empty where both are one tensor."""

    input: tuple[str, ...]
    output: tuple[str, ...]
    output_bias: str | None
    tied: bool
    rows: int
    width: int
    architecture: str

    @property
    def all(self) -> tuple[str, ...]:
        """Every tensor that changes with the vocabulary."""
        return (*self.input, *self.output, *([self.output_bias] if self.output_bias else []))


def embedding_names(checkpoint: Checkpoint) -> EmbeddingNames:
    """Find the embedding tensors; raises `ModelError` where the model or one of them is not to be had."""
    model = _on_meta(checkpoint.folder)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        msg = f"{checkpoint.folder}: {type(model).__name__} has no language-model head to extend"
        raise ModelError(msg)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tied = head.weight is table.weight
    prefix = model.base_model_prefix
    shape = tuple(table.weight.shape)
    input_names = _stored(parameters, table.weight, prefix, checkpoint)
    output_names = () if tied else _stored(parameters, head.weight, prefix, checkpoint)
    if not input_names or not (tied or output_names):
        side = "output" if input_names else "input"
        msg = (f"{checkpoint.folder}: the {side} embedding of {type(model).__name__}, {shape[0]:,} rows of {shape[1]}, "
               f"is in none of {len(checkpoint.files)} files; is it whole, and does config.json belong to it?")
        raise TensorsNotFound(msg)
    bias = getattr(head, "bias", None)
    bias_names = () if bias is None else _stored(parameters, bias, prefix, checkpoint)
    _check_copies(checkpoint, input_names)
    stored_shape = checkpoint.tensors[input_names[0]].shape
    return EmbeddingNames(input_names, output_names, bias_names[0] if bias_names else None, tied, stored_shape[0],
                          stored_shape[1], type(model).__name__)


def _on_meta(folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trusted = trust(folder)
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **trusted), **trusted)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ImportError) as error:
        msg = f"{folder}: not a causal language model that transformers knows ({' '.join(str(error).split())[:200]})"
        raise ModelError(msg) from error


def _stored(parameters: dict[str, Any], wanted: Any, prefix: str, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names of the files that hold a parameter: several where a tied matrix was stored twice."""
    found = []
    for name, parameter in parameters.items():
        if parameter is not wanted:
            continue
        for spelling in _spellings(name, prefix):
            place = checkpoint.tensors.get(spelling)
            if place is not None and len(place.shape) == wanted.dim() and place.shape[1:] == tuple(wanted.shape[1:]):
                found.append(spelling)
                break
    return tuple(dict.fromkeys(found))


def _spellings(name: str, prefix: str) -> Iterator[str]:
    yield name
    yield name.removeprefix(f"{prefix}.")
    yield f"{prefix}.{name}"
    module, _, kind = name.rpartition(".")
    for earlier in EARLIER_NAMES.get(module, ()):
        yield f"{earlier}.{kind}"


def _check_copies(checkpoint: Checkpoint, names: tuple[str, ...]) -> None:
    first = checkpoint.tensors[names[0]]
    for name in names[1:]:
        other = checkpoint.tensors[name]
        same = other.shape == first.shape and bool((checkpoint.tensor(name) == checkpoint.tensor(names[0])).all())
        if not same:
            msg = (f"{checkpoint.folder}: config.json ties the input and output embeddings, but {names[0]} and {name} "
                   f"differ; set tie_word_embeddings to false in config.json")
            raise ModelError(msg)
