"""Which tensors of a checkpoint have a row for each id: asked of the architecture, not guessed from names.

transformers builds the model twice on the meta device (shapes without numbers), with the vocabulary of config.json and
with a larger one. The tensors whose shape differs follow the vocabulary: the input and the output embedding, a bias of
the head, and in some architectures per-layer embeddings or routing tables. Their names in the files come from
transformers' own conversion table. Tensors that the model does not load (multi-token-prediction layers) are told by
their shape. What cannot be placed is refused by name, so that no table is left behind with too few rows.
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
    mapped,
)
from lingraft.checkpoint.stored_names import stored_names
from lingraft.errors import ModelError

EARLIER_NAMES = {"lm_head": ("embed_out", "output", "head")}
LARGER_BY = 64
PER_LAYER_SIZE = "vocab_size_per_layer_input"

Rule = Literal["input", "output", "mean of the pieces", "majority of the pieces"]
"""How the rows of new tokens are made in a further table with a row for each id.

`input` and `output` tables are copies of the embedding or of the head, as multi-token-prediction layers have.
"""


class TensorsNotFound(ModelError):  # noqa: N818 - said of the files, which may still be a whole model
    """The files hold no tensor under a name that the embeddings are known to have."""


@dataclass(frozen=True)
class VocabularyTable:
    """A tensor with a row for each id that is neither the input nor the output embedding."""

    name: str
    rule: Rule
    rows: int


@dataclass(frozen=True)
class EmbeddingNames:
    """The names, as the files have them, of the tensors that follow the vocabulary.

    `output` is empty where input and output are one tensor. `rows` are those of the input embedding, `vocabulary` is
    the vocab_size of config.json: Mllama's input has eight rows more, for images.
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
    """The first id that the model takes for an image or a sound, whatever the tokenizer says (Gemma 3n)."""

    @property
    def all(self) -> tuple[str, ...]:
        """Every tensor that changes with the vocabulary."""
        bias = (self.output_bias,) if self.output_bias else ()
        return (*self.input, *self.output, *bias, *(table.name for table in self.tables))


def embedding_names(checkpoint: Checkpoint) -> EmbeddingNames:
    """Find the tensors that follow the vocabulary.

    Raises `ModelError` where the model or one of its embeddings is not there, where config.json and the files
    disagree about the number of rows, or where a table with a row for each id is of no known kind.
    """
    config = read_model_config(checkpoint.folder)
    model = meta_model(config, checkpoint.folder)
    check_runs_on_text(model, checkpoint.folder / "config.json")
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or not hasattr(table, "weight"):
        msg = f"{checkpoint.folder}: {type(model).__name__} has no language-model head to extend"
        raise ModelError(msg)
    found = _TableFinder(checkpoint, model, stored_names(model, checkpoint.tensors))
    tied = head.weight is table.weight
    input_names = found.embedding("input", table.weight)
    output_names = () if tied else found.embedding("output", head.weight)
    bias = getattr(head, "bias", None)
    bias_names = () if bias is None else found.of(bias)
    _check_copies(checkpoint, input_names)
    stored = checkpoint.tensors[input_names[0]]
    main = {*input_names, *output_names, *bias_names}
    tables = (*_further_tables(found, config, main), *_unloaded_tables(found, stored, main))
    return EmbeddingNames(
        input_names,
        output_names,
        bias_names[0] if bias_names else None,
        tied,
        stored.shape[0],
        stored.shape[1],
        type(model).__name__,
        int(config.get_text_config(decoder=True).vocab_size),
        tables,
        is_multimodal(config),
        auto_class(config).__name__,
        _first_reserved(config),
    )


def _first_reserved(config: Any) -> int | None:
    parts = [getattr(config, name, None) for name in ("vision_config", "audio_config")]
    offsets = [getattr(part, "vocab_offset", None) for part in parts]
    return min((offset for offset in offsets if offset is not None), default=None)


@dataclass(frozen=True)
class _TableFinder:
    """A checkpoint, the model that transformers makes of it, and the stored names of the model's tensors."""

    checkpoint: Checkpoint
    model: Any
    stored: Mapping[str, tuple[str, ...]]

    def embedding(self, side: str, weight: Any) -> tuple[str, ...]:
        """Return the stored names of an embedding; raises `TensorsNotFound`."""
        names, shape = self.of(weight), tuple(weight.shape)
        if names:
            self.check_rows(names[0], shape)
            mapped(self.checkpoint.tensors[names[0]])  # refuses rows that are no plain numbers
            return names
        msg = (
            f"{self.checkpoint.folder}: the {side} embedding of {type(self.model).__name__}, {shape[0]:,} rows "
            f"of {shape[1]}, is in none of {len(self.checkpoint.files)} files; is it whole, and does config.json "
            f"belong to it?"
        )
        raise TensorsNotFound(msg)

    def of(self, wanted: Any) -> tuple[str, ...]:
        """Return the stored names of a parameter: several where a tied matrix was stored twice."""
        found: list[str] = []
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            if parameter is wanted:
                found += self.stored.get(name, ()) or self._earlier(name, wanted)
        return tuple(dict.fromkeys(found))

    def _earlier(self, name: str, wanted: Any) -> Iterator[str]:
        """Yield the stored name of an earlier release that transformers does not translate itself."""
        module, _, kind = name.rpartition(".")
        for earlier in EARLIER_NAMES.get(module, ()):
            place = self.checkpoint.tensors.get(f"{earlier}.{kind}")
            if place is not None and place.shape[1:] == tuple(wanted.shape[1:]):
                yield f"{earlier}.{kind}"
                return

    def check_rows(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `ModelError` where config.json and a tensor of the files disagree about its shape."""
        place = self.checkpoint.tensors[name]
        if place.shape == shape:
            return
        if place.shape[1:] == shape[1:]:
            seen = f"{place.shape[0]:,} in {name}, vocab_size {shape[0]}; set vocab_size to the rows that are stored"
        else:
            seen = (
                f"{list(place.shape)} in {name}, {list(shape)} by config.json; fetch the config.json of "
                f"these weights"
            )
        msg = f"{self.checkpoint.folder / 'config.json'}: transformers cannot load these weights: {seen}"
        raise ModelError(msg)


def _further_tables(found: _TableFinder, config: Any, main: set[str]) -> Iterator[VocabularyTable]:
    """Yield the other tensors of the model whose shape follows the vocabulary."""
    before = found.model.state_dict()
    after = meta_model(with_larger_vocabulary(config), found.checkpoint.folder).state_dict()
    for name, tensor in before.items():
        shape, larger = tuple(tensor.shape), tuple(after[name].shape)
        if shape == larger:
            continue
        for stored in found.stored.get(name, ()):
            if stored in main:
                continue
            found.check_rows(stored, shape)
            if shape[1:] != larger[1:]:
                _refuse_table(found, stored)
            yield VocabularyTable(
                stored, _rule_of(found, found.checkpoint.tensors[stored]), shape[0]
            )


def with_larger_vocabulary(config: Any) -> Any:
    """Return a copy of a configuration with more ids."""
    larger = copy.deepcopy(config)
    text = larger.get_text_config(decoder=True)
    before = text.vocab_size
    for part in (larger, text):
        if getattr(part, "vocab_size", None) == before:
            part.vocab_size = before + LARGER_BY
        if getattr(part, PER_LAYER_SIZE, None):
            setattr(part, PER_LAYER_SIZE, getattr(part, PER_LAYER_SIZE) + LARGER_BY)
    return larger


def _unloaded_tables(
    found: _TableFinder, table: TensorPlace, main: set[str]
) -> Iterator[VocabularyTable]:
    """Yield the tables among the tensors that transformers does not load: those of multi-token prediction."""
    loaded = {name for names in found.stored.values() for name in names} | main
    for name, place in found.checkpoint.tensors.items():
        if name in loaded or len(place.shape) > 2 or table.shape[0] not in place.shape:
            continue
        if place.shape[0] != table.shape[0] or place.shape.count(table.shape[0]) > 1:
            _refuse_table(found, name)
        if place.shape == table.shape and place.dtype in FLOATS:
            sides: dict[str, Rule] = {
                "emb": "input",
                "wte": "input",
                "head": "output",
                "output": "output",
            }
            known = [side for word, side in sides.items() if word in name]
            if not known:
                _refuse_table(found, name)
            yield VocabularyTable(name, known[0], place.shape[0])
        else:
            yield VocabularyTable(name, _rule_of(found, place), place.shape[0])


def _rule_of(found: _TableFinder, place: TensorPlace) -> Rule:
    if place.dtype in INTEGERS:
        return "majority of the pieces"
    if place.dtype not in FLOATS or len(place.shape) > 2:
        _refuse_table(found, place.name)
    return "mean of the pieces"


def _refuse_table(found: _TableFinder, name: str) -> NoReturn:
    place = found.checkpoint.tensors[name]
    msg = (
        f"{found.checkpoint.folder}: {name} ({place.dtype}, {list(place.shape)}) has an entry for each id, and "
        f"lingraft knows no rule for the entries of new tokens in {type(found.model).__name__}; choose another base"
    )
    raise ModelError(msg)


def _check_copies(checkpoint: Checkpoint, names: tuple[str, ...]) -> None:
    for name in names[1:]:
        if not same_numbers(checkpoint, names[0], name):
            msg = (
                f"{checkpoint.folder}: config.json ties the input and output embeddings, but {names[0]} and {name} "
                f"differ; set tie_word_embeddings to false in config.json"
            )
            raise ModelError(msg)


def same_numbers(checkpoint: Checkpoint, one: str, other: str) -> bool:
    """Say whether two stored tensors are equal, reading a block of rows at a time."""
    first, second = checkpoint.tensor(one), checkpoint.tensor(other)
    if first.shape != second.shape:
        return False
    pairs = zip(blocks(first), blocks(second), strict=True)
    return all(bool((mine == theirs).all()) for mine, theirs in pairs)
