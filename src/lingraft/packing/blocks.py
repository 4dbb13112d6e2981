"""Rows of tokens on disk.

`blocks.bin` is one stream of token ids (uint32), `rows.bin` says which stretch each row is: start, length, and the
bytes and documents of text that it teaches. A row of length L reads L + 1 tokens: the first is context, each other is
predicted from those before it. In a stream, rows overlap by that one token, so that every token of the text is
predicted exactly once, the first of a document too (from BOS or EOS); the last row is kept short. BOS itself is given
and never predicted. A token covers the bytes of its surface, scaled within each document so that they sum up to the
document's bytes exactly, whatever a normalizer does (`shards`).

Both files are mapped into memory and written as a stream: a corpus of any size takes a few megabytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lingraft.corpus import Corpus
from lingraft.errors import CorpusError, StoreError
from lingraft.packing.chat_rows import NO_TEMPLATE, ChatEncoder
from lingraft.packing.config import PackingSettings
from lingraft.packing.shards import DOCUMENTS, Integers, Shard, shards_of
from lingraft.progress import progress
from lingraft.store import Draft
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.chat_template import ChatTemplate
from lingraft.tokenizer.separators import Separators, separators_of
from lingraft.tokenizer.special_text import describe_mentions, most_frequent_first
from lingraft.workers import HERE, Workers

TOKENS, ROWS, SUMMARY = "blocks.bin", "rows.bin", "blocks.json"


@dataclass(frozen=True)
class Summary:
    """What is in a folder of blocks: `tokens` are the predicted ones, `dropped` what a cut took away.

    `mentions` counts the special tokens that the documents spell; they are packed as text. `chats` of the documents are
    conversations that the chat template wrote; `refused` counts those that it would not write. `control` are the ids
    that are no text: a chat template puts them around messages.
    """

    block: int
    rows: int
    tokens: int
    bytes: int
    documents: int
    before: int | None
    after: int | None
    dropped_tokens: int = 0
    dropped_bytes: int = 0
    mentions: Mapping[str, int] = field(default_factory=dict)
    chats: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    control: Sequence[int] = ()
    format: int = 1


@dataclass(frozen=True)
class Blocks:
    """A folder of rows, mapped into memory."""

    folder: Path
    summary: Summary

    @classmethod
    def open(cls, folder: Path) -> Blocks:
        """Open a folder of blocks; raises `StoreError` where it is none or not whole."""
        try:
            summary = Summary(**json.loads((folder / SUMMARY).read_text(encoding="utf-8")))
            blocks = cls(folder, summary)
            whole = len(blocks.rows) == summary.rows and int(blocks.rows[-1, :2].sum()) < len(
                blocks.tokens
            )
        except (OSError, ValueError, TypeError) as error:
            msg = f"{folder}: not packed text ({error}); remove the folder and run again"
            raise StoreError(msg) from error
        if not whole:
            msg = f"{folder}: packed text that is cut short; remove the folder and run again"
            raise StoreError(msg)
        return blocks

    def __len__(self) -> int:
        return self.summary.rows

    @cached_property
    def tokens(self) -> NDArray[np.uint32]:
        """The stream of ids."""
        return np.memmap(self.folder / TOKENS, dtype=np.uint32, mode="r")

    @cached_property
    def rows(self) -> Integers:
        """Start, length, bytes and documents of each row: [rows, 4]."""
        return np.memmap(self.folder / ROWS, dtype=np.int64, mode="r").reshape(-1, 4)

    @property
    def opening(self) -> int:
        """The id that is the context of a document's first token: a document begins there."""
        before, after = self.summary.before, self.summary.after
        return before if before is not None else int(after or 0)

    @property
    def separators(self) -> tuple[int, ...]:
        """The ids that stand between documents."""
        return tuple(i for i in (self.summary.before, self.summary.after) if i is not None)

    @property
    def no_text(self) -> tuple[int, ...]:
        """The ids that stand for no text: separators, and what a chat template puts around messages."""
        return tuple(sorted({*self.separators, *self.summary.control}))

    def row(self, index: int) -> Integers:
        """Return the length + 1 ids of a row."""
        start, length = self.rows[index, :2]
        return self.tokens[start : start + length + 1].astype(np.int64)


def pack_corpus(
    corpus: Corpus,
    tokenizer: ModelTokenizer,
    settings: PackingSettings,
    draft: Draft,
    *,
    context: int | None = None,
    split: str = "train",
    workers: Workers = HERE,
    scratch_dir: Path | None = None,
    separators: Separators | None = None,
    template: ChatTemplate | None = None,
) -> None:
    """Tokenise a split of a corpus into `draft`; raises `CorpusError` where it holds no text.

    `separators` are those of the source model, whose files say more than the folder of an extended tokenizer. What
    `workers` have tokenised is kept in `scratch_dir`, so that a killed run can resume. Neither changes the output.
    """
    separators = separators or separators_of(tokenizer, settings.separator)
    draft.notes["separators"] = separators.shown
    chats = ChatEncoder(tokenizer, template) if template and corpus.has_chats else None
    if corpus.has_chats and chats is None:
        msg = f"text in {corpus.language}: holds conversations (format: chat), and {NO_TEMPLATE}"
        raise CorpusError(msg)
    with progress(
        f"packing {corpus.language}", corpus.counts(split).documents, unit="documents"
    ) as advance:

        def watched() -> Iterator[list[str]]:
            for texts in corpus.batches(split, DOCUMENTS):
                yield texts
                advance(len(texts))

        shards = shards_of(
            watched(), tokenizer, workers=workers, scratch_dir=scratch_dir, chats=chats
        )
        summary = pack_shards(
            shards, tokenizer, settings, draft.folder, context=context, separators=separators
        )
    draft.notes.update(notes_of(summary))
    if summary.refused:
        reasons = ", ".join(f"{count:,}: {reason}" for reason, count in summary.refused.items())
        left_out = sum(summary.refused.values())
        draft.warn(
            f"text in {corpus.language}: {left_out:,} conversations are left out ({reasons})"
        )
    if summary.mentions:
        draft.warn(f"text in {corpus.language}: {describe_mentions(summary.mentions)}")


def notes_of(summary: Summary) -> dict[str, Any]:
    """Return what the manifest says of packed text."""
    return {**asdict(summary), "bytes_per_token": round(summary.bytes / max(summary.tokens, 1), 4)}


def pack_texts(
    batches: Iterable[Sequence[str]],
    tokenizer: ModelTokenizer,
    settings: PackingSettings,
    folder: Path,
    *,
    context: int | None = None,
) -> Summary:
    """Tokenise batches of texts into a folder of blocks."""
    return pack_shards(shards_of(batches, tokenizer), tokenizer, settings, folder, context=context)


def pack_shards(
    shards: Iterable[Shard],
    tokenizer: ModelTokenizer,
    settings: PackingSettings,
    folder: Path,
    *,
    context: int | None = None,
    separators: Separators | None = None,
) -> Summary:
    """Put tokenised documents together into a folder of blocks; `separators` are the tokenizer's own by default."""
    separators = separators or separators_of(tokenizer, settings.separator)
    before, after = separators.ids(tokenizer)
    block = settings.row_length(context)
    with (folder / TOKENS).open("wb") as tokens, (folder / ROWS).open("wb") as rows:
        kind = _Stream if settings.layout == "stream" else _Documents
        writer = kind(tokens, rows, block, before, after)
        mentions, refused, chats = Counter[str](), Counter[str](), 0
        for shard in shards:
            mentions.update(shard.mentions)
            refused.update(shard.refused)
            chats += shard.chats
            for ids, sizes in shard:
                writer.add(ids, sizes)
        writer.close()
    summary = Summary(
        block,
        writer.rows,
        writer.tokens,
        writer.bytes,
        writer.documents,
        before,
        after,
        writer.dropped_tokens,
        writer.dropped_bytes,
        most_frequent_first(mentions),
        chats,
        most_frequent_first(refused),
        sorted(tokenizer.family.control),
    )
    if not summary.rows:
        msg = "there is no text to train on: every document is empty; see what counts.json says was dropped"
        raise CorpusError(msg)
    (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=1) + "\n", encoding="utf-8")
    return summary


class _BlockWriter:
    """Counts what goes into the two files."""

    def __init__(
        self, tokens: BinaryIO, rows: BinaryIO, block: int, before: int | None, after: int | None
    ) -> None:
        self._tokens, self._rows = tokens, rows
        self.block, self.before, self.after = block, before, after
        self.rows = self.tokens = self.bytes = self.documents = 0
        self.dropped_tokens = self.dropped_bytes = 0
        self.start = 0

    def add(self, ids: Integers, sizes: Integers) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Write what is still held back."""

    def _without_ends(self, ids: Integers, sizes: Integers) -> tuple[Integers, Integers]:
        """Leave out separators that a chat template put at the ends already; text holds none."""
        first = int(len(ids) > 1 and int(ids[0]) == self.before)
        last = len(ids) - int(len(ids) > 1 and int(ids[-1]) == self.after)
        return ids[first:last], sizes[first:last]

    def _write_row(self, length: int, size: int, documents: int) -> None:
        self._rows.write(np.array([self.start, length, size, documents], dtype=np.int64).tobytes())
        self.rows += 1
        self.tokens += length
        self.bytes += size
        self.documents += documents

    def _write_tokens(self, ids: Integers) -> None:
        self._tokens.write(ids.astype(np.uint32).tobytes())


class _Stream(_BlockWriter):
    """Documents one after another; `_sizes` and `_begins` of the tokens after the last full row wait for their row."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sizes = self._begins = np.zeros(0, dtype=np.int64)
        self._begun = False

    def add(self, ids: Integers, sizes: Integers) -> None:
        """Append a document."""
        ids, sizes = self._without_ends(ids, sizes)
        begins = np.zeros(len(ids), dtype=np.int64)
        begins[0] = 1
        opening = self.before if self.before is not None else self.after
        head = np.array(
            [opening] if self.before is not None or not self._begun else [], dtype=np.int64
        )
        tail = np.array([self.after] if self.after is not None else [], dtype=np.int64)
        self._write_tokens(np.concatenate([head, ids, tail]))
        pads = (
            len(head) if self._begun else 0,
            len(tail),
        )  # the stream's first token is context, in no row
        self._sizes = np.concatenate([self._sizes, np.pad(sizes, pads)])
        self._begins = np.concatenate([self._begins, np.pad(begins, pads)])
        self._begun = True
        while len(self._sizes) >= self.block:
            self._cut(self.block)

    def close(self) -> None:
        """Keep the last row, which is short."""
        if len(self._sizes):
            self._cut(len(self._sizes))

    def _cut(self, length: int) -> None:
        self._write_row(length, int(self._sizes[:length].sum()), int(self._begins[:length].sum()))
        self._sizes, self._begins = self._sizes[length:], self._begins[length:]
        self.start += length


class _Documents(_BlockWriter):
    """A document a row, cut at `block` predicted tokens."""

    def add(self, ids: Integers, sizes: Integers) -> None:
        """Append a document as a row of its own."""
        ids, sizes = self._without_ends(ids, sizes)
        head = self.before if self.before is not None else self.after
        whole = [*ids, self.after] if self.after is not None else ids
        kept = whole[: self.block]
        self._write_tokens(np.array([head, *kept], dtype=np.int64))
        size = int(sizes[: self.block].sum())
        self.dropped_tokens += len(whole) - len(kept)
        self.dropped_bytes += int(sizes.sum()) - size
        self._write_row(len(kept), size, 1)
        self.start += len(kept) + 1
