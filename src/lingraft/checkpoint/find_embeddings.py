"""Find the tensors of a checkpoint that have a row for each id.

Their names differ between architectures. transformers therefore builds the model twice on the meta
device (shapes without weights): with the vocabulary of config.json and with a larger one. The
tensors whose shapes differ follow the vocabulary: the input and the output embedding, a bias of the
head, and in some architectures per-layer embeddings or routing tables. Their names in the files
come from the conversion table of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import (
    auto_class,
    check_runs_on_text,
    is_multimodal,
    read_model_config,
)
from lingraft.checkpoint.row_request import Side
from lingraft.checkpoint.safetensors_files import (
    Checkpoint,
    blocks,
)
from lingraft.checkpoint.stored_names import stored_names
from lingraft.checkpoint.vocabulary_tables import (
    TableFinder,
    VocabularyTable,
    find_loaded_tables,
    find_unloaded_tables,
)
from lingraft.errors import ModelError


@dataclass(frozen=True)
class EmbeddingNames:
    """The names in the files of the tensors that follow the vocabulary.

    `output` is empty where input and output are one tensor. `rows` counts those of the input
    embedding; `vocabulary` is the vocab_size of config.json (Mllama's input has 8 rows more, for
    images).
    """

    input: tuple[str, ...]
    output: tuple[str, ...]
    output_bias: str | None
    tied: bool
    rows: int
    width: int
    architecture: str
    vocabulary: int = 0
    tables: tuple[VocabularyTable, ...] = ()
    multimodal: bool = False
    loads_with: str = "AutoModelForCausalLM"
    first_reserved: int | None = None
    """The first id that the model itself reserves for images or sound (Gemma 3n)."""

    @property
    def all(self) -> tuple[str, ...]:
        """Every tensor that changes with the vocabulary."""
        bias = (self.output_bias,) if self.output_bias else ()
        return (*self.input, *self.output, *bias, *(table.name for table in self.tables))

    def matrix(self, side: Side) -> str:
        """The name of a side's matrix; of a tied model, that of its only one."""
        return self.output[0] if side == "output" and self.output else self.input[0]


def embedding_names(checkpoint: Checkpoint) -> EmbeddingNames:
    """Find the tensors that follow the vocabulary.

    Raises `ModelError` where the model has no head, where an embedding is missing, where the number
    of rows in config.json and in the files differs, or where a table is of an unknown kind.
    """
    folder = checkpoint.folder
    config = read_model_config(folder)
    model = meta_model(config, folder)
    stored = stored_names(model, checkpoint.tensors)
    finder = TableFinder(checkpoint, model, stored, lambda larger: meta_model(larger, folder))
    return find_embedding_names(finder, config, folder / "config.json")


def find_embedding_names(finder: TableFinder, config: Any, where: Path) -> EmbeddingNames:
    """Find the tensors of a model, in files or in memory; `where` begins the messages of errors."""
    model, checkpoint = finder.model, finder.checkpoint
    check_runs_on_text(model, where)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or not hasattr(table, "weight"):
        msg = f"{checkpoint.folder}: {type(model).__name__} has no language-model head to extend"
        raise ModelError(msg)
    tied = head.weight is table.weight
    input_names = finder.find_embedding("input", table.weight)
    output_names = () if tied else finder.find_embedding("output", head.weight)
    bias = getattr(head, "bias", None)
    bias_names = () if bias is None else finder.names_of(bias)
    _check_copies(checkpoint, input_names)
    stored = checkpoint.tensors[input_names[0]]
    main = {*input_names, *output_names, *bias_names}
    loaded_tables = find_loaded_tables(finder, config, main)
    unloaded_tables = find_unloaded_tables(finder, stored, main)
    return EmbeddingNames(
        input=input_names,
        output=output_names,
        output_bias=bias_names[0] if bias_names else None,
        tied=tied,
        rows=stored.shape[0],
        width=stored.shape[1],
        architecture=type(model).__name__,
        vocabulary=int(config.get_text_config(decoder=True).vocab_size),
        tables=(*loaded_tables, *unloaded_tables),
        multimodal=is_multimodal(config),
        loads_with=auto_class(config).__name__,
        first_reserved=_first_reserved(config),
    )


def _first_reserved(config: Any) -> int | None:
    """Return the lowest id that a vision or audio part reserves, or none."""
    offsets: list[int] = []
    for name in ("vision_config", "audio_config"):
        offset = getattr(getattr(config, name, None), "vocab_offset", None)
        if offset is not None:
            offsets.append(offset)
    return min(offsets, default=None)


def _check_copies(checkpoint: Checkpoint, names: tuple[str, ...]) -> None:
    """Raise `ModelError` where a tied matrix is stored twice with different numbers."""
    for name in names[1:]:
        # transformers loads one copy, so the model would depend on which.
        if not same_numbers(checkpoint, names[0], name):
            msg = (
                f"{checkpoint.folder}: config.json ties the input and output embeddings, but "
                f"{names[0]} and {name} differ; set tie_word_embeddings to false in config.json"
            )
            raise ModelError(msg)


def same_numbers(checkpoint: Checkpoint, name: str, other_name: str) -> bool:
    """Whether two stored tensors are equal, read a block of rows at a time."""
    tensor, other = checkpoint.tensor(name), checkpoint.tensor(other_name)
    if tensor.shape != other.shape:
        return False
    for block, other_block in zip(blocks(tensor), blocks(other), strict=True):
        if not bool((block == other_block).all()):
            return False
    return True
