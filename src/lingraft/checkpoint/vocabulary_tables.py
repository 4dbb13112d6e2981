"""The further tensors with a row for each id, and the rule for the rows of new tokens in each.

Some architectures have such tables besides the two embeddings and the bias of the head: per-layer
embeddings, routing tables, tables of multi-token prediction. A table that the model loads is one
whose shape changes if the model is built with a larger vocabulary. A table that it does not load is
a vector or matrix with as many rows as the input embedding. New rows are those of the input or
output embedding, the mean of the subtokens' rows, or what most subtokens have. A table that fits no
rule raises an error that names it, because it would be too short for the ids of added tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from lingraft.checkpoint.safetensors_files import (
    FLOATS,
    INTEGERS,
    Checkpoint,
    TensorPlace,
)
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
class TableFinder:
    """A checkpoint, its model, and the stored names of the model's tensors.

    `build` builds the model of a configuration on the meta device.
    """

    checkpoint: Checkpoint
    model: Any
    stored: Mapping[str, tuple[str, ...]]
    build: Callable[[Any], Any]

    def find_embedding(self, side: str, weight: Any) -> tuple[str, ...]:
        """Return the stored names of an embedding; raise `EmbeddingNotFoundError` without one."""
        names, shape = self.names_of(weight), tuple(weight.shape)
        if names:
            self.check_rows(names[0], shape)
            self.checkpoint.tensor(names[0])  # refuses a quantised matrix
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
                f"{name} has {place.shape[0]} rows, and config.json asks for {shape[0]}; correct "
                f"the vocabulary size in config.json, or use the config.json of these weights"
            )
        else:
            difference = (
                f"{name} has the shape {list(place.shape)}, and config.json asks for "
                f"{list(shape)}; use the config.json of these weights"
            )
        config = self.checkpoint.folder / "config.json"
        msg = f"{config}: transformers cannot load these weights: {difference}"
        raise ModelError(msg)


def find_loaded_tables(
    finder: TableFinder, config: Any, main: set[str]
) -> Iterator[VocabularyTable]:
    """Yield the other tensors of the model whose shape follows the vocabulary."""
    before = finder.model.state_dict()
    after = finder.build(with_larger_vocabulary(config)).state_dict()
    for name, tensor in before.items():
        # A model in memory may have tensors that its configuration does not imply.
        if name not in after:
            continue
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
    set_config_rows(larger, LARGER_BY + larger.get_text_config(decoder=True).vocab_size)
    return larger


def set_config_rows(config: Any, rows: int) -> None:
    """Set the number of rows in a configuration object, and where it is repeated in its parts.

    An outer vocab_size that differs from that of the language model counts something else and does
    not change.
    """
    text = config.get_text_config(decoder=True)
    before = text.vocab_size
    # Multimodal configurations repeat vocab_size outside the text configuration.
    for part in (config, text):
        if getattr(part, "vocab_size", None) == before:
            part.vocab_size = rows
        if getattr(part, PER_LAYER_SIZE, None):
            setattr(part, PER_LAYER_SIZE, rows)


def find_unloaded_tables(
    finder: TableFinder, embedding: TensorPlace, main: set[str]
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


def _copied_side(finder: TableFinder, name: str) -> Rule:
    """Return which matrix a multi-token prediction table copies, from its name."""
    for word, side in UNLOADED_TABLES.items():
        if word in name:
            return side
    return _refuse_table(finder, name)


def _rule_of(finder: TableFinder, place: TensorPlace) -> Rule:
    # A table of integers routes ids to experts. The numbers of experts have no mean.
    if place.dtype in INTEGERS:
        return "majority of the pieces"
    if place.dtype not in FLOATS or len(place.shape) > 2:
        _refuse_table(finder, place.name)
    return "mean of the pieces"


def _refuse_table(finder: TableFinder, name: str) -> NoReturn:
    place = finder.checkpoint.tensors[name]
    msg = (
        f"{finder.checkpoint.folder}: {name} ({place.dtype}, {list(place.shape)}) has an entry for "
        f"each id, and lingraft has no rule for the entries of new tokens in "
        f"{type(finder.model).__name__}; choose another base"
    )
    raise ModelError(msg)
