"""`lingraft.pack`: packs text in memory into the blocks of lingraft's own training.

A block of `length` ids is a packed sequence of `length - 1` predicted tokens and the id before
them. Blocks overlap by this id, so that every token of the text is predicted exactly once by models
that shift labels by one, as those of transformers do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lingraft.errors import CorpusError, RecipeError, named_errors
from lingraft.library.arguments import check_number, check_seed, keyword_names
from lingraft.library.given_texts import read_documents
from lingraft.library.given_tokenizer import (
    TokenizerLike,
    name_of,
    open_given_tokenizer,
)
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks, PackingSummary
from lingraft.packing.mixture import IGNORED, Mixture
from lingraft.packing.pack import NO_TEXT, pack_texts
from lingraft.packing.shards import Integers
from lingraft.packing.shifted_rows import row_labels, row_positions
from lingraft.progress import LogLine, send_lines_to
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.tree import Tree
from lingraft.store import temporary_folder
from lingraft.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from datasets import Dataset

REPLAY_SHARE = 0.2
"""The default share of bytes that are replay text."""
_BATCH = 1000


@dataclass(frozen=True, eq=False)
class PackedText:
    """Blocks of token ids: a data set for a training loop, with arrays and a `datasets.Dataset`.

    `packed[i]` is a mapping with the `input_ids`, `labels` and `position_ids` of a block. Labels
    are -100 where nothing is predicted: at the first id of a block, and at BOS. Position ids start
    at 0 in every document. `packed.collate` is the collator that pads the last, shorter block.

    Attributes:
        ids: the ids of all blocks, one after another.
        offsets: where each block begins in `ids`, and the end of the last one.
        replayed: whether each block is replay text.
        text: counts of the text: its blocks, predicted tokens, bytes and documents, and what the
            layout `documents` drops.
        replay: the same counts of all replay text, or None.
    """

    ids: NDArray[np.uint32]
    offsets: Integers
    replayed: NDArray[np.bool_]
    text: PackingSummary
    replay: PackingSummary | None = None

    def __repr__(self) -> str:
        """Return the counts; `lingraft.pack` returns it to a notebook."""
        replayed = f", {int(self.replayed.sum()):,} of them replay" if self.replay else ""
        return (
            f"PackedText({len(self):,} blocks{replayed}; {len(self.ids):,} ids, at most "
            f"{self.text.block + 1:,} in a block)"
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Integers]:
        index = range(len(self))[index]  # negative numbers, and IndexError at the end
        begin, end = self.offsets[index : index + 2]
        return {
            "input_ids": self.ids[begin:end].astype(np.int64),
            "labels": self.labels[begin:end],
            "position_ids": self.position_ids[begin:end],
        }

    @cached_property
    def labels(self) -> Integers:
        """The label of each of `ids`."""
        return row_labels(self.ids, self.offsets, self.text.before)

    @cached_property
    def position_ids(self) -> Integers:
        """The position of each of `ids` in its document, or in its block if that starts later."""
        start = self.text.before if self.text.before is not None else self.text.after
        return row_positions(self.ids, self.offsets, int(start or 0))

    def to_numpy(self) -> dict[str, Integers]:
        """Return `input_ids`, `labels`, `position_ids` and `attention_mask`, [blocks, length]."""
        return _pad([self[index] for index in range(len(self))], self._padding)

    def to_dataset(self, *, position_ids: bool = False) -> Dataset:
        """Return a `datasets.Dataset` with `input_ids` and `labels`, for transformers' Trainer.

        With `position_ids`, attention does not cross documents in models of transformers that
        detect packed sequences by them, if there is no cache: set `use_cache = False` in
        `model.config.get_text_config()`. Use `collate` as the data collator.
        """
        from datasets import Dataset

        columns = {"input_ids": self.ids.astype(np.int64), "labels": self.labels}
        if position_ids:
            columns["position_ids"] = self.position_ids
        return Dataset(_ragged(columns, self.offsets))

    def collate(self, blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return blocks as padded torch tensors; a data collator for transformers' Trainer."""
        import torch

        arrays = _pad(blocks, self._padding)
        # Padding is on the right and has no labels. A mask would hide packed sequences from models
        # that detect them by their position ids.
        arrays.pop("attention_mask")
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    @property
    def _padding(self) -> int:
        return int(self.text.after if self.text.after is not None else self.text.before or 0)


def pack(
    tokenizer: TokenizerLike,
    texts: Iterable[str] | os.PathLike[str],
    length: int = 1024,
    *,
    layout: Literal["stream", "documents"] = "stream",
    separator: str = "auto",
    replay: Iterable[str] | os.PathLike[str] | None = None,
    replay_share: float | None = None,
    seed: int = 0,
    log: LogLine | None = None,
) -> PackedText:
    """Tokenise documents and pack them into blocks of `length` ids.

    The blocks are those of `training.packing` in a recipe with `block_size: length - 1`. A special
    token that a document spells is tokenised as text.

    Args:
        tokenizer: a tokenizer of transformers or of `tokenizers`, a model folder, a tokenizer file,
            or owner/name on the Hub.
        texts: the documents, or the path of a file.
        length: ids per block, at most the context length of the model.
        layout: `stream` puts documents one after another and cuts them into full blocks.
            `documents` makes a block of each document and drops what is beyond `length`.
        separator: the token between documents. auto is the BOS and EOS of pretraining, never the
            mark of a chat turn; eos, bos, bos-eos, or a special token.
        replay: documents, or the path of a file, in a language that the model knows, which limit
            forgetting. The blocks are then in the order of lingraft's training: shuffled by `seed`,
            with replay blocks spread evenly, until each block of `texts` was used once.
        replay_share: the share of bytes that are replay text, by default 0.2.
        seed: the seed of the order with replay. Without replay, blocks have the order of the text.
        log: receives the lines of progress. By default, they go to standard error.

    Raises:
        LingraftError: with one line that says what is wrong and what to do.

    >>> from lingraft.library.example_model import example_model
    >>> _, tokenizer = example_model()
    >>> packed = pack(tokenizer, ["A small bird sings.", "It rains."], length=8)
    >>> len(packed), packed[0]["input_ids"].shape, packed.text.documents
    (3, (8,), 2)
    >>> tokenizer.decode(packed[0]["input_ids"])[:10]
    '<s>A small'
    >>> packed.to_dataset().column_names
    ['input_ids', 'labels']
    """
    check_number(length, "length", at_least=3)
    check_seed(seed)
    share = REPLAY_SHARE if replay_share is None else replay_share
    if not isinstance(share, int | float) or not 0 <= share < 1:
        msg = f"replay_share: {share!r} is no share; give a number from 0 to below 1"
        raise RecipeError(msg)
    if replay is None and replay_share:
        msg = f"replay_share: {share:g}, but no replay text; give replay, or leave replay_share out"
        raise RecipeError(msg)
    values = {"block_size": int(length) - 1, "layout": layout, "separator": separator}
    settings = parse_settings(Tree(values), PackingSettings)
    with (
        send_lines_to(log),
        keyword_names("training.packing", PackingSettings),
        TemporaryDirectory(prefix="lingraft-", dir=temporary_folder()) as scratch,
    ):
        folder = Path(scratch, "tokenizer")
        with named_errors(folder, name_of(tokenizer)):
            opened = open_given_tokenizer(tokenizer, folder)
            blocks = _pack(texts, opened, settings, Path(scratch, "texts"))
        if replay is None:
            return _gather(blocks, np.arange(len(blocks)))
        replay_blocks = _pack(replay, opened, settings, Path(scratch, "replay"))
        return _mix(Mixture.of([(blocks, 1.0)], replay_blocks, share, seed))


def _pack(
    texts: Iterable[str] | os.PathLike[str],
    tokenizer: ModelTokenizer,
    settings: PackingSettings,
    folder: Path,
) -> Blocks:
    folder.mkdir()
    documents = read_documents(texts, folder.name)
    try:
        pack_texts(_batches(filter(None, documents)), tokenizer, settings, folder)
    except CorpusError as error:
        # The message of a run names one of its files.
        if str(error) == NO_TEXT:
            msg = f"{folder.name}: every document is empty; give text to pack"
            raise CorpusError(msg) from error
        raise
    return Blocks.open(folder)


def _batches(documents: Iterable[str]) -> Iterable[list[str]]:
    batch = []
    for text in documents:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _mix(mixture: Mixture) -> PackedText:
    """Return the blocks in the order of training, until each target block was used once."""
    (target, replay), (rate, _) = mixture.texts, mixture.rates
    count = int(len(target.blocks) / rate)
    # The rounding of replay positions may leave out the last target block.
    while mixture.counts(count)[0] < len(target.blocks):
        count += 1
    drawn, sequences = mixture.draw(0, count)
    return _gather(target.blocks, sequences, replay.blocks, ~mixture.is_target(drawn))


def _gather(
    target: Blocks,
    sequences: Integers,
    replay: Blocks | None = None,
    replayed: NDArray[np.bool_] | None = None,
) -> PackedText:
    """Copy sequences, which are mapped from files, into memory."""
    if replayed is None:
        replayed = np.zeros(len(sequences), dtype=np.bool_)
    parts, lengths = [], [0]
    for index, is_replay in zip(sequences.tolist(), replayed.tolist(), strict=True):
        ids = (replay if is_replay and replay else target).sequence(index)
        parts.append(ids.astype(np.uint32))
        lengths.append(len(ids))
    return PackedText(
        np.concatenate(parts),
        np.cumsum(lengths),
        replayed,
        target.summary,
        replay.summary if replay else None,
    )


def _pad(blocks: Sequence[Mapping[str, Any]], padding: int) -> dict[str, Integers]:
    width = max(len(block["input_ids"]) for block in blocks)
    values = {"input_ids": padding, "labels": IGNORED, "position_ids": 0}
    arrays = {}
    for name, value in values.items():
        if name in blocks[0]:
            arrays[name] = np.full((len(blocks), width), value, dtype=np.int64)
    arrays["attention_mask"] = np.zeros((len(blocks), width), dtype=np.int64)
    for number, block in enumerate(blocks):
        size = len(block["input_ids"])
        arrays["attention_mask"][number, :size] = 1
        for name in values:
            if name in arrays:
                arrays[name][number, :size] = block[name]
    return arrays


def _ragged(columns: Mapping[str, Integers], offsets: Integers) -> Any:
    """Return an arrow table with a list for each block."""
    import pyarrow as pa

    lists = {}
    for name, values in columns.items():
        # 64-bit offsets: the ids of a large text have more than 2^31 places.
        lists[name] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    return pa.table(lists)
