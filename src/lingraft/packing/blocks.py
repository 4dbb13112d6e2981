"""Packed text on disk: sequences of tokens, mapped into memory.

A folder of packed text has three files:
- `blocks.bin`: the token ids of all sequences as one stream (uint32).
- `rows.bin`: for each sequence its start in the stream, its length, and the bytes and documents of
  text that it predicts (four int64).
- `blocks.json`: the `PackingSummary`.

A sequence of length L reads L + 1 ids. The first is context, and each of the others is predicted
from those before it. In the layout `stream`, sequences overlap by this id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lingraft.errors import StoreError
from lingraft.packing.shards import Integers

TOKENS, SPANS, SUMMARY = "blocks.bin", "rows.bin", "blocks.json"

CHUNK = 1 << 24
"""Ids that are compared at a time."""


@dataclass(frozen=True)
class PackingSummary:
    """The counts and settings of packed text, as stored in blocks.json.

    - `block`: the maximum length of a sequence, in predicted tokens; `rows`: the number of
      sequences.
    - `tokens`, `bytes`, `documents`: what the sequences predict; `dropped_tokens` and
      `dropped_bytes`: what the layout `documents` cuts off.
    - `before`, `after`: the ids of the separators before and after a document, or None.
    - `mentions`: counts of the special tokens that documents contain; they are packed as text.
    - `chats`: the number of conversations that the chat template rendered; `refused`: the number
      that it refused, by reason.
    - `control`: the ids that a chat template writes around messages.
    """

    # The names are those of the stored file.

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
    """The sequences in a folder of packed text, mapped into memory."""

    folder: Path
    summary: PackingSummary

    @classmethod
    def open(cls, folder: Path) -> Blocks:
        """Open a folder of packed text; raise `StoreError` if it is not complete."""
        try:
            content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
            blocks = cls(folder, PackingSummary(**content))
            # In files that were cut short, the last sequence ends after the end of the stream.
            last_id = int(blocks.spans[-1, :2].sum())
            complete = len(blocks.spans) == blocks.summary.rows and last_id < len(blocks.tokens)
        except (OSError, ValueError, TypeError) as error:
            msg = f"{folder}: not packed text ({error}); remove the folder and run again"
            raise StoreError(msg) from error
        if not complete:
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
    def spans(self) -> Integers:
        """Start, length, bytes and documents of each sequence: [sequences, 4]."""
        return np.memmap(self.folder / SPANS, dtype=np.int64, mode="r").reshape(-1, 4)

    @cached_property
    def document_ranges(self) -> tuple[Integers, Integers]:
        """The first and the last document of which each sequence has a part, by their numbers.

        In the layout `stream`, a sequence counts as a part of the document before it as well: its
        first token may be the end of that document.
        """
        begun = np.cumsum(self.spans[:, 3])
        before, after = begun - self.spans[:, 3], begun - 1
        # Only the sequences of a stream overlap by an id.
        starts, lengths = self.spans[:2, 0], self.spans[:2, 1]
        if len(starts) > 1 and starts[1] == starts[0] + lengths[0]:
            before = np.maximum(before - 1, 0)
        return before, after

    @property
    def document_start(self) -> int:
        """The id from which the first token of a document is predicted."""
        before, after = self.summary.before, self.summary.after
        return before if before is not None else int(after or 0)

    @cached_property
    def marks_documents(self) -> bool:
        """Whether `document_start` is nowhere but between documents.

        A chat template may write it between turns (Llama 2), and a tokenizer for each character
        that it does not know, if one token has both roles.
        """
        found = 0
        for first in range(0, len(self.tokens), CHUNK):
            part = self.tokens[first : first + CHUNK]
            found += int(np.count_nonzero(part == self.document_start))
        # Without a separator before documents, the stream begins with the one after them.
        return found == self.summary.documents + (self.summary.before is None)

    @property
    def separators(self) -> tuple[int, ...]:
        """The ids between documents: `before` and `after`, where there are such."""
        return tuple(i for i in (self.summary.before, self.summary.after) if i is not None)

    @property
    def non_text_ids(self) -> tuple[int, ...]:
        """The separators, and the ids that a chat template writes around messages."""
        return tuple(sorted({*self.separators, *self.summary.control}))

    def sequence(self, index: int) -> Integers:
        """Return the length + 1 ids of a sequence."""
        start, length = self.spans[index, :2]
        return self.tokens[start : start + length + 1].astype(np.int64)
