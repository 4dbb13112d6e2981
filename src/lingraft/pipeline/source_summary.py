"""Describes the source: whether it is a base or a chat model, and how the run treats it.

The plan, the log of a run and the model card show this statement. The plan also says what is
downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.bases import Base
from lingraft.bases.folder import read_config
from lingraft.bases.hub_model import HubBase
from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.checkpoint.config_files import context_of
from lingraft.checkpoint.safetensors_files import torch_dtype
from lingraft.errors import RecipeError
from lingraft.formatting import size
from lingraft.pipeline.model_shape import model_of
from lingraft.recipe import Recipe
from lingraft.strategies import Strategy
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of
from lingraft.tokenizer.separators import Separators, chat_model_of, separators_of

ALTERNATIVE = (
    "the alternative is to adapt its base model and to add its chat vector "
    "(chat_vector: {instruct: ...})"
)


@dataclass(frozen=True)
class SourceStatement:
    """Lines and warnings about the source, and `kind`, which run.json keeps for the model card."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    kind: dict[str, Any]


def source_statement(recipe: Recipe, folder: Path) -> SourceStatement:
    """Describe the model in a folder and how the recipe treats it.

    Raises `ModelError` if documents are to be masked and the model cannot mask them. Raises
    `RecipeError` if the recipe has chat text and the model has no chat template, or one that
    document masks would cut, if an optimizer would round weights of the model that the strategy
    keeps, if the settings of a strategy do not fit the model, if sequences or the windows of the
    evaluation exceed its context, or if tasks need a chat template and the model has none.
    """
    _check_lengths(recipe, folder)
    _check_rounding(recipe, folder)
    _check_strategies(recipe, folder)
    _check_mask(recipe, folder)
    tokenizer = open_tokenizer(folder)
    trains = bool(recipe.training.phases)
    _check_task_template(recipe, tokenizer)
    lines: list[str] = []
    warnings: list[str] = []
    kind: dict[str, Any] = {"chat": False}
    chat = chat_model_of(tokenizer)
    chats = [text.language for text in recipe.texts if text.holds_chats]
    if chat is not None:
        kind = {"chat": True, "ends": chat.ends, "chat_text": bool(chats) and trains}
        lines.append(
            f"source: a chat model (its chat template ends an answer with {chat.ends}); template "
            "and turn marks are kept"
        )
    elif chat_template_of(tokenizer) is not None:
        lines.append(
            "source: a base model (it has a chat template, but generation does not end where the "
            "template ends an answer)"
        )
    if recipe.chat_vector is not None:
        _describe_chat_vector(recipe, lines, warnings, is_chat=chat is not None)
    elif chat is not None:
        _describe_chat_training(chats, lines, warnings, trains=trains)
    if trains:
        if chats:
            _check_template(tokenizer, chats)
        separators = separators_of(tokenizer, recipe.training.packing.separator)
        if chats and recipe.training.requires_document_mask:
            _check_document_start(tokenizer, separators, chats)
        lines.append(f"training reads each document as: {separators.shown}")
    return SourceStatement(tuple(lines), tuple(warnings), kind)


def download_lines(model: Base) -> list[str]:
    """Return a line with the size of the model's files on the Hub that are not on this machine."""
    if not isinstance(model, HubBase) or not (missing := model.missing_files()):
        return []
    count = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    return [f"download: {model.id}@{model.commit()}, {count}, {size(sum(missing.values()))}"]


def _describe_chat_vector(
    recipe: Recipe, lines: list[str], warnings: list[str], *, is_chat: bool
) -> None:
    """Say that the chat vector is added after training."""
    lines.append(
        "chosen: the base is adapted, then the chat vector of the instruct model is added (weight "
        f"{recipe.chat_vector.weight if recipe.chat_vector else 1:g})"
    )
    if is_chat:
        warnings.append(
            "model: is a chat model itself, but a chat vector is added to a base model; name the "
            "base model in model, or leave chat_vector out"
        )


def _describe_chat_training(
    chats: list[str], lines: list[str], warnings: list[str], *, trains: bool
) -> None:
    """Say that the chat model itself is trained, and on which text."""
    if not trains:
        lines.append(
            "chosen: nothing is trained. For training, replay chat text (a source with format: "
            f"chat); {ALTERNATIVE}"
        )
    elif chats:
        lines.append(
            f"chosen: the chat model is adapted directly, with chat text in {', '.join(chats)}; "
            f"{ALTERNATIVE}"
        )
    else:
        lines.append("chosen: the chat model is adapted directly, on plain text alone")
        warnings.append(
            "the source is a chat model and no chat text is trained on: it may forget how to chat; "
            f"replay chat text (a source with format: chat); {ALTERNATIVE}"
        )


def _check_lengths(recipe: Recipe, folder: Path) -> None:
    """Check the lengths of sequences and windows before the training instead of after it."""
    # A tokenizer alone, and the folder of a plan, may have no configuration.
    if not (folder / "config.json").is_file():
        return
    context = context_of(read_config(folder))
    if recipe.training.phases:
        recipe.training.packing.sequence_length(context)
    recipe.evaluation.check_context(context)


def _check_rounding(recipe: Recipe, folder: Path) -> None:
    """Refuse before the text is read what the trainer would refuse, where the weights are known."""
    phases = [phase for phase in recipe.training.phases if phase.strategy.keeps_weights]
    if not phases or not list(folder.glob("*.safetensors")):
        return
    config = read_config(folder)
    # The stage of the source dequantises the weights.
    if "quantization_config" in config:
        return
    checkpoint = Checkpoint.open(folder)
    place = checkpoint.tensors[embedding_names(checkpoint).input[0]]
    stored = str(torch_dtype(place.dtype)).removeprefix("torch.")
    # Weights are loaded in the data type of config.json, so bfloat16 in either place is enough.
    named = config.get("dtype") or config.get("torch_dtype")
    for phase in phases:
        phase.check_rounding("bfloat16" if named == "bfloat16" else stored)


def _check_strategies(recipe: Recipe, folder: Path) -> None:
    """Refuse before the text is read what the trainer would refuse, where shapes are enough."""
    strategies = [phase.strategy for phase in recipe.training.phases]
    # To build a model takes seconds. The folder of a plan may hold the tokenizer only.
    strategies = [one for one in strategies if type(one).check is not Strategy.check]
    known = strategies and (folder / "config.json").is_file()
    model = model_of(read_config(folder)) if known else None
    for strategy in strategies if model is not None else ():
        strategy.check(model)


def _check_mask(recipe: Recipe, folder: Path) -> None:
    """Refuse before the text is read a mask that the model does not have."""
    is_asked = recipe.training.phases and recipe.training.requires_document_mask
    if is_asked and (folder / "config.json").is_file():
        # A plan without this setting needs no torch.
        from lingraft.training.document_mask import check_mask

        check_mask(folder)


def _check_document_start(
    tokenizer: ModelTokenizer, separators: Separators, chats: list[str]
) -> None:
    """Refuse a mask that would begin a document at every turn, as with the template of Llama 2."""
    template, start = chat_template_of(tokenizer), separators.before or separators.after
    if template is not None and start in template.turn_tokens.between:
        msg = (
            f"training.document_attention_mask: the mask takes each {start} for the start of a "
            f"document, but the chat template also writes it between turns, so that turns could "
            f"not see earlier ones (text in {', '.join(chats)}); leave the setting out, and set "
            "training.packing.layout to documents if documents must not share a sequence"
        )
        raise RecipeError(msg)


def _check_task_template(recipe: Recipe, tokenizer: ModelTokenizer) -> None:
    tasks = recipe.evaluation.tasks
    if tasks.names and tasks.apply_chat_template and chat_template_of(tokenizer) is None:
        msg = (
            "evaluation.tasks.apply_chat_template: the source model has no chat template, and the "
            "tasks are run on it as well; leave the setting out, or start from an instruct model"
        )
        raise RecipeError(msg)


def _check_template(tokenizer: ModelTokenizer, chats: list[str]) -> None:
    if chat_template_of(tokenizer) is None:
        msg = (
            f"text in {', '.join(chats)}: format: chat, but the model has no chat template to "
            "render conversations with; start from an instruct model, or read them as text "
            "(format: text)"
        )
        raise RecipeError(msg)
