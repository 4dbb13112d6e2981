"""Opens what users pass: models and tokenizers in memory, folders, runs and Hub ids.

lingraft reads tokenizers from files. A tokenizer in memory is therefore saved to a temporary folder
as it is at that time, with its special tokens and chat template, and with the configuration of its
model. Models in memory are used themselves: on their device, in their data type.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lingraft.bases import parse_model
from lingraft.bases.base import BuildContext
from lingraft.bases.tokenizer_files import complete_tokenizer
from lingraft.checkpoint.text_reading import read_text_alone
from lingraft.checkpoint.weight_checks import check_finite_model
from lingraft.errors import ModelError, named_errors
from lingraft.library.given_tokenizer import (
    TokenizerLike,
    open_given_tokenizer,
    save_given_tokenizer,
)
from lingraft.pipeline.finished_run import Run
from lingraft.pipeline.model_evaluation import model_path
from lingraft.store import Draft
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ModelLike: TypeAlias = (
    "str | os.PathLike[str] | Run | tuple[PreTrainedModel, PreTrainedTokenizerBase]"
)
"""A model and its tokenizer in memory, a finished run, or the name of a folder or Hub model."""


@dataclass(frozen=True)
class OpenModel:
    """A model to measure: its folder, its tokenizer, and the model itself if it is in memory.

    The folder of a model in memory holds its tokenizer and its configuration, but no weights.
    """

    folder: Path
    tokenizer: ModelTokenizer
    loaded: Any = None


def named_tokenizers(
    tokenizers: TokenizerLike | Mapping[str, TokenizerLike], folder: Path
) -> dict[str, ModelTokenizer]:
    """Open one or several tokenizers, by name; `folder` receives those in memory."""
    if not isinstance(tokenizers, Mapping):
        tokenizers = {_name_of(tokenizers): tokenizers}
    opened = {}
    for number, (name, tokenizer) in enumerate(tokenizers.items()):
        opened[str(name)] = open_given_tokenizer(tokenizer, folder / f"tokenizer-{number}")
    return opened


def _name_of(tokenizer: TokenizerLike) -> str:
    name = getattr(tokenizer, "name_or_path", None) or "tokenizer"
    path = os.fspath(tokenizer) if isinstance(tokenizer, str | os.PathLike) else str(name)
    return Path(path).name or "tokenizer"


def open_model(model: ModelLike, folder: Path) -> OpenModel:
    """Open a model with its tokenizer; `folder` receives its files, with links to its weights.

    Raises `ModelError` or `TokenizerError` for a model that lingraft cannot read.
    """
    folder.mkdir(parents=True)
    if isinstance(model, Run):
        return _open_named_model(str(model.model_path), folder)
    if isinstance(model, str | os.PathLike):
        return _open_named_model(os.fspath(model), folder)
    if isinstance(model, Sequence) and len(model) == 2:
        loaded, tokenizer = model
        if not hasattr(loaded, "get_input_embeddings"):
            msg = (
                f"models: {folder.name}: {type(loaded).__name__} is not a model of transformers; "
                "give (model, tokenizer), in this order"
            )
            raise ModelError(msg)
        loaded = _without_wrapper(loaded)
        # Written first: config.json names ids of special tokens that the tokenizer may not name.
        # Not by save_pretrained, which refuses settings of generation that contradict each other.
        loaded.config.to_json_file(folder / "config.json")
        if getattr(loaded, "generation_config", None) is not None:
            loaded.generation_config.to_json_file(folder / "generation_config.json")
        return OpenModel(folder, save_given_tokenizer(tokenizer, folder), loaded)
    msg = (
        f"models: {folder.name}: got {type(model).__name__}; expected (model, tokenizer), a run, a "
        "model folder, or owner/name on the Hub"
    )
    raise ModelError(msg)


def _without_wrapper(model: Any) -> Any:
    """Return the transformers model inside a PEFT model, with its adapters; others unchanged."""
    config = getattr(model, "active_peft_config", None)
    # The base model holds the adapters' layers, but not the virtual tokens of prompt methods.
    if config is None or config.is_prompt_learning:
        return model
    return model.get_base_model()


def _open_named_model(name: str, folder: Path) -> OpenModel:
    # The same steps as for the source model of a run: links to weights, a converted tokenizer.
    context = BuildContext(Draft(folder), folder / "scratch")
    parse_model(model_path(name)).materialise(context)
    with named_errors(context.folder, name):
        return OpenModel(context.folder, complete_tokenizer(context.folder))


@contextmanager
def evaluation_mode(model: Any, name: str) -> Iterator[None]:
    """Set a model in memory to evaluation mode; restore the mode of each of its modules after it.

    Raises `ModelError` if a weight is NaN or infinite, or not in memory.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        msg = f"{name}: weights are on the meta device; load the whole model before measuring it"
        raise ModelError(msg)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        check_finite_model(model, Path(name))
        read_text_alone(model, Path(name))
        yield
    finally:
        for module, training in modes:
            module.training = training
