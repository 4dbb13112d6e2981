"""Find the tensors of a checkpoint that have a row for each id.

Their names differ between architectures. transformers therefore builds the model twice on the meta
device (shapes without weights): with the vocabulary of config.json and with a larger one. The
tensors whose shapes differ follow the vocabulary: the input and the output embedding, a bias of the
head, and in some architectures per-layer embeddings or routing tables. Their names in the files
come from the conversion table of transformers. Tensors that the model does not load (multi-token
prediction layers) are recognised by their shape.

A table of an unknown kind raises an error that names it: without new rows, it would be too short
for the ids of added tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import (
    auto_class,
    check_runs_on_text,
    is_multimodal,
    read_model_config,
)
from lingraft.checkpoint.safetensors_files import (
    FLOATS,
    INTEGERS,
    Checkpoint,
    TensorPlace,
    blocks,
    map_tensor,
)
from lingraft.checkpoint.stored_names import stored_names
from lingraft.errors import ModelError

# Names of the head in earlier releases of some architectures.
EARLIER_NAMES = {"lm_head": ("embed_out", "output", "head")}
# Any number would do: only the names of the tensors whose shapes change are used.
LARGER_BY = 64
# Words in the names of multi-token prediction tables, and the matrix that such a table copies.
UNLOADED_TABLES: Mapping[str, Literal["input", "output"]] = {
    "emb": "input",
    "wte": "input",
    "head": "output",
    "output": "output",
}
PER_LAYER_SIZE = "vocab_size_per_layer_input"

Rule = Literal["input", "output", "mean of the pieces", "majority of the pieces"]
"""How the rows of added tokens are made in a table other than the two embeddings.

`input` and `output` tables are copies of the embedding or of the head (multi-token prediction).
"""


class EmbeddingNotFoundError(ModelError):
    """The files hold no tensor under a name that the embedding can have."""


@dataclass(frozen=True)
class VocabularyTable:
    """A tensor with a row for each id that is neither the input nor the output embedding."""

    name: str
    rule: Rule
    rows: int


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


def embedding_names(checkpoint: Checkpoint) -> EmbeddingNames:
    """Find the tensors that follow the vocabulary.

    Raises `ModelError` where the model has no head, where an embedding is missing, where the number
    of rows in config.json and in the files differs, or where a table is of an unknown kind.
    """
    config = read_model_config(checkpoint.folder)
    model = meta_model(config, checkpoint.folder)
    check_runs_on_text(model, checkpoint.folder / "config.json")
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or not hasattr(table, "weight"):
        msg = f"{checkpoint.folder}: {type(model).__name__} has no language-model head to extend"
        raise ModelError(msg)
    finder = _TableFinder(checkpoint, model, stored_names(model, checkpoint.tensors))
    tied = head.weight is table.weight
    input_names = finder.find_embedding("input", table.weight)
    output_names = () if tied else finder.find_embedding("output", head.weight)
    bias = getattr(head, "bias", None)
    bias_names = () if bias is None else finder.names_of(bias)
    _check_copies(checkpoint, input_names)
    stored = checkpoint.tensors[input_names[0]]
    main = {*input_names, *output_names, *bias_names}
    loaded_tables = _loaded_tables(finder, config, main)
    unloaded_tables = _unloaded_tables(finder, stored, main)
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


@dataclass(frozen=True)
class _TableFinder:
    """A checkpoint, its model on the meta device, and the stored names of the model's tensors."""

    checkpoint: Checkpoint
    model: Any
    stored: Mapping[str, tuple[str, ...]]

    def find_embedding(self, side: str, weight: Any) -> tuple[str, ...]:
        """Return the stored names of an embedding; raise `EmbeddingNotFoundError` without one."""
        names, shape = self.names_of(weight), tuple(weight.shape)
        if names:
            self.check_rows(names[0], shape)
            map_tensor(self.checkpoint.tensors[names[0]])  # refuses a quantised matrix
            return names
        msg = (
            f"{self.checkpoint.folder}: the {side} embedding of {type(self.model).__name__}, "
            f"{shape[0]:,} rows of {shape[1]}, is in none of {len(self.checkpoint.files)} files; "
            f"check that the folder is complete and that config.json belongs to it"
        )
        raise EmbeddingNotFoundError(msg)

    def names_of(self, weight: Any) -> tuple[str, ...]:
        """Return the stored names of a parameter: several where a tied matrix is stored twice."""
        names: list[str] = []
        # A tied parameter is one object under several names.
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            if parameter is weight:
                names += self.stored.get(name, ()) or self._earlier_name(name, weight)
        return tuple(dict.fromkeys(names))

    def _earlier_name(self, name: str, weight: Any) -> Iterator[str]:
        """Yield the stored name of an earlier release that transformers does not translate."""
        module, _, kind = name.rpartition(".")
        for earlier in EARLIER_NAMES.get(module, ()):
            place = self.checkpoint.tensors.get(f"{earlier}.{kind}")
            if place is not None and place.shape[1:] == tuple(weight.shape[1:]):
                yield f"{earlier}.{kind}"
                return

    def check_rows(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `ModelError` where config.json and the files disagree about a tensor's shape."""
        place = self.checkpoint.tensors[name]
        if place.shape == shape:
            return
        if place.shape[1:] == shape[1:]:
            difference = (
                f"{place.shape[0]:,} in {name}, vocab_size {shape[0]}; set vocab_size to the "
                f"number of stored rows"
            )
        else:
            difference = (
                f"{list(place.shape)} in {name}, {list(shape)} by config.json; download the "
                f"config.json of these weights"
            )
        config = self.checkpoint.folder / "config.json"
        msg = f"{config}: transformers cannot load these weights: {difference}"
        raise ModelError(msg)


def _loaded_tables(finder: _TableFinder, config: Any, main: set[str]) -> Iterator[VocabularyTable]:
    """Yield the other tensors of the model whose shape follows the vocabulary."""
    before = finder.model.state_dict()
    after = meta_model(with_larger_vocabulary(config), finder.checkpoint.folder).state_dict()
    for name, tensor in before.items():
        shape, larger = tuple(tensor.shape), tuple(after[name].shape)
        if shape == larger:
            continue
        for stored in finder.stored.get(name, ()):
            if stored in main:
                continue
            finder.check_rows(stored, shape)
            if shape[1:] != larger[1:]:
                _refuse_table(finder, stored)
            rule = _rule_of(finder, finder.checkpoint.tensors[stored])
            yield VocabularyTable(stored, rule, shape[0])


def with_larger_vocabulary(config: Any) -> Any:
    """Return a copy of a configuration with `LARGER_BY` more ids."""
    larger = copy.deepcopy(config)
    text = larger.get_text_config(decoder=True)
    before = text.vocab_size
    # Multimodal configurations repeat vocab_size outside the text configuration.
    for part in (larger, text):
        if getattr(part, "vocab_size", None) == before:
            part.vocab_size = before + LARGER_BY
        if getattr(part, PER_LAYER_SIZE, None):
            setattr(part, PER_LAYER_SIZE, getattr(part, PER_LAYER_SIZE) + LARGER_BY)
    return larger


def _unloaded_tables(
    finder: _TableFinder, embedding: TensorPlace, main: set[str]
) -> Iterator[VocabularyTable]:
    """Yield the tables that transformers does not load: those of multi-token prediction."""
    rows = embedding.shape[0]
    loaded = main.union(*finder.stored.values())
    for name, place in finder.checkpoint.tensors.items():
        # Only vectors and matrices with a dimension of this size can be tables.
        if name in loaded or len(place.shape) > 2 or rows not in place.shape:
            continue
        # Where another dimension has the same size, the shape does not show which one are the ids.
        if place.shape[0] != rows or place.shape.count(rows) > 1:
            _refuse_table(finder, name)
        if place.shape == embedding.shape and place.dtype in FLOATS:
            yield VocabularyTable(name, _copied_side(finder, name), rows)
        else:
            yield VocabularyTable(name, _rule_of(finder, place), rows)


def _copied_side(finder: _TableFinder, name: str) -> Rule:
    """Return which matrix a multi-token prediction table copies, from its name."""
    for word, side in UNLOADED_TABLES.items():
        if word in name:
            return side
    return _refuse_table(finder, name)


def _rule_of(finder: _TableFinder, place: TensorPlace) -> Rule:
    # A table of integers routes ids to experts. The numbers of experts have no mean.
    if place.dtype in INTEGERS:
        return "majority of the pieces"
    if place.dtype not in FLOATS or len(place.shape) > 2:
        _refuse_table(finder, place.name)
    return "mean of the pieces"


def _refuse_table(finder: _TableFinder, name: str) -> NoReturn:
    place = finder.checkpoint.tensors[name]
    msg = (
        f"{finder.checkpoint.folder}: {name} ({place.dtype}, {list(place.shape)}) has an entry for "
        f"each id, and lingraft has no rule for the entries of new tokens in "
        f"{type(finder.model).__name__}; choose another base"
    )
    raise ModelError(msg)


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
