"""The inputs of the training run of the method `learned`: its strategy, its text, its start model.

Suffixes: T target ids, A added tokens, D width of the matrix.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from lingraft.checkpoint import Checkpoint, embedding_names, resize_embeddings
from lingraft.embeddings.align import read_text
from lingraft.embeddings.base import InitRequest, InitRows, Side
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.pack import pack_shards
from lingraft.packing.shards import Shard, tokenise_in_shards
from lingraft.strategies import Embeddings, ParameterGroup, Rows
from lingraft.tokenizer.separators import separators_of

if TYPE_CHECKING:
    import torch


class LearnedMatrices(Embeddings):
    """Trains the embedding matrices of the learned sides, or only their added rows.

    A bias of the output head does not train.
    """

    name: ClassVar[str] = "learned matrices"

    sides: tuple[Side, ...]
    base_rows: Literal["train", "keep"]

    def prepare(self, model: Any, added: Sequence[int]) -> list[ParameterGroup]:
        """Freeze everything but the matrices, or the added rows, of the learned sides."""
        only_added = self.base_rows == "keep"
        strategy = Rows().prepare if only_added else super().prepare
        # Both strategies prepare the matrices of both sides, and a bias of the head. The parameters
        # of a side that is not learned are frozen again below.
        (group,) = strategy(model, added)
        modules = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
        learned = set()
        for side in self.sides:
            parameter = modules[side].rows if only_added else modules[side].weight
            learned.add(id(parameter))
        trained = ParameterGroup("added_rows")
        for name, parameter in group.parameters.items():
            if id(parameter) in learned:
                trained.parameters[name] = parameter
            else:
                parameter.requires_grad = False
        return [trained]

    def finish(self, model: torch.nn.Module) -> None:
        """Write separately trained added rows into the matrices."""
        if self.base_rows == "keep":
            Rows().finish(model)


@dataclass(frozen=True)
class GivenRows:
    """Rows that are already computed, with the interface of an initialisation (`RowMaker`)."""

    given: Mapping[Side, InitRows]

    def rows(self, request: InitRequest) -> InitRows:
        """Return the rows of a side."""
        # A tied model has the rows of one side only, which may be the output side here, but
        # `resize_embeddings` asks for the input side.
        only_side = next(iter(self.given)) if len(self.given) == 1 else request.side
        return self.given[only_side]

    def chosen(self) -> dict[str, Any]:
        """Return the method's name for the notes of the start model, which are not used."""
        return {"given": {}}


def read_source_rows(request: InitRequest, side: Side) -> torch.Tensor:
    """Return the source model's own matrix of a side, without padding."""
    checkpoint = Checkpoint.open(request.source_folder)
    matrix = checkpoint.tensor(embedding_names(checkpoint).matrix(side))
    return matrix[: request.splice.source_size]


def write_start_model(request: InitRequest, rows: Mapping[Side, InitRows], folder: Path) -> Path:
    """Write the model that training starts from; files without a changed tensor are hard links."""
    given = GivenRows(rows)
    resize_embeddings(
        request.source_folder,
        request.tokenizer_folder,
        request.splice,
        input_init=given,
        output_init=given,
        output=folder,
        seed=request.seed,
        device=request.device,
    )
    return folder


def pack_text(
    request: InitRequest, *, text_bytes: int, max_tokens: int, block_size: int, folder: Path
) -> Blocks:
    """Pack the first `text_bytes` of the train text, or the first `max_tokens` if that is less.

    Raises `CorpusError` if this gives no block.
    """
    target = request.target_tokenizer
    separators = separators_of(request.source_tokenizer)
    # Separators count towards the budget.
    per_document = len([separator for separator in separators.ids(target) if separator is not None])
    shards = tokenise_in_shards(read_text(request, text_bytes), target)
    pack_shards(
        _first_tokens(shards, max_tokens, per_document),
        target,
        PackingSettings(block_size=block_size),
        folder,
        separators=separators,
    )
    return Blocks.open(folder)


def _first_tokens(shards: Iterable[Shard], tokens: int, separators: int) -> Iterator[Shard]:
    """Yield the first `tokens` tokens of tokenized text, counting `separators` per document."""
    for shard in shards:
        ends = np.cumsum(shard.lengths + separators)
        complete = int((ends <= tokens).sum())
        used = int(ends[complete - 1]) if complete else 0
        if complete == len(ends):
            yield shard
            tokens -= used
            continue
        # The next document is cut, if any token is left for it after its separators.
        part = tokens - separators - used
        lengths = np.append(shard.lengths[:complete], [part] if part > 0 else [])
        lengths = lengths.astype(shard.lengths.dtype)
        size = int(lengths.sum())
        yield Shard(shard.ids[:size], shard.sizes[:size], lengths)
        return


def empty_folder(folder: Path) -> Path:
    """Create a folder without content; files of an earlier process may be incomplete."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
