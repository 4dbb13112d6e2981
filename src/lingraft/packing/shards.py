"""Tokenised documents in pieces that can be made anywhere, in any order, and put together.

A shard holds the ids of so many documents one after another, the bytes that each id covers, and the number of ids of
each document. Its borders depend on the order of the documents alone, so that the packed text is the same whatever
made the shards: this process, several, or the ones of yesterday. On disk it is whole or absent.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lingraft.corpus.chat import Conversation
from lingraft.packing.chat_rows import NO_TEMPLATE, ChatEncoder
from lingraft.store import atomic_file
from lingraft.tokenizer import ModelTokenizer
from lingraft.workers import HERE, Workers

Integers = NDArray[np.int64]

DOCUMENTS = 1000


@dataclass(frozen=True)
class Shard:
    """Ids of documents, the bytes that each covers, and the ids of each document; empty documents are left out.

    `mentions` counts the special tokens that the texts spell, which are read as text; `chats` the conversations, which
    the chat template wrote, and `refused` those that it would not write, by reason.
    """

    ids: Integers
    sizes: Integers
    lengths: Integers
    mentions: Mapping[str, int] = field(default_factory=dict)
    chats: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Integers, Integers]]:
        """Yield ids and sizes of each document."""
        ends = np.cumsum(self.lengths)[:-1]
        yield from (
            zip(np.split(self.ids, ends), np.split(self.sizes, ends), strict=True)
            if len(self.lengths)
            else ()
        )

    def write(self, path: Path) -> None:
        """Write the shard atomically."""
        with atomic_file(path) as draft, draft.open("wb") as file:
            np.savez(
                file,
                ids=self.ids.astype(np.uint32),
                sizes=self.sizes.astype(np.uint32),
                lengths=self.lengths,
                counts=np.array(json.dumps([dict(self.mentions), self.chats, dict(self.refused)])),
            )

    @classmethod
    def read(cls, path: Path) -> Shard:
        """Read what `write` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            ids, sizes, lengths = (
                stored[name].astype(np.int64) for name in ("ids", "sizes", "lengths")
            )
            return cls(ids, sizes, lengths, *json.loads(str(stored["counts"])))


def tokenised(
    texts: Sequence[str],
    tokenizer: ModelTokenizer,
    surfaces: Integers,
    chats: ChatEncoder | None = None,
) -> Shard:
    """Return the shard of some documents; `surfaces` are the bytes of each id's surface, `chats` writes conversations.

    The bytes of a conversation are those of its contents: what the template puts around them is no text.
    """
    plain = [text for text in texts if not isinstance(text, Conversation)]
    rest, refused = iter(tokenizer.encode(plain)), Counter[str]()
    written: list[list[int]] = []
    for text in texts:
        if not isinstance(text, Conversation):
            written.append(next(rest))
            continue
        ids, reason = chats.encode(text.messages) if chats else ([], NO_TEMPLATE)
        refused.update([reason] if reason else [])
        written.append(ids)
    found = [
        (np.array(ids, dtype=np.int64), len(text.encode()))
        for text, ids in zip(texts, written, strict=True)
        if ids
    ]
    empty = [np.zeros(0, dtype=np.int64)]
    return Shard(
        np.concatenate([*empty, *(ids for ids, _ in found)]),
        np.concatenate([*empty, *(covered_bytes(surfaces[ids], size) for ids, size in found)]),
        np.array([len(ids) for ids, _ in found], dtype=np.int64),
        tokenizer.family.special_text.count(texts),
        len(texts) - len(plain) - refused.total(),
        refused,
    )


def surfaces_of(tokenizer: ModelTokenizer) -> Integers:
    """Return the bytes of each id's surface."""
    return np.array(
        [len(surface or b"") for surface in tokenizer.vocabulary.surfaces], dtype=np.int64
    )


def covered_bytes(sizes: Integers, total: int) -> Integers:
    """Share the bytes of a document among its tokens, in proportion to their surfaces.

    >>> covered_bytes(np.array([2, 3]), 5).tolist(), covered_bytes(np.array([3, 3]), 5).tolist()
    ([2, 3], [2, 3])
    """
    ends = np.cumsum(sizes)
    if not ends[-1]:  # nothing but unknown tokens
        ends = np.arange(1, len(sizes) + 1)
    shares: Integers = np.diff(ends * total // ends[-1], prepend=0)
    return shares


def shards_of(
    batches: Iterable[Sequence[str]],
    tokenizer: ModelTokenizer,
    *,
    workers: Workers = HERE,
    scratch_dir: Path | None = None,
    chats: ChatEncoder | None = None,
) -> Iterator[Shard]:
    """Yield the shards of a text in order, whoever makes them; those kept in `scratch_dir` are read again.

    Memory does not grow with the text.
    """
    shared = (tokenizer, surfaces_of(tokenizer), scratch_dir, chats)
    yield from workers.map(_made, shared, enumerate(_regrouped(batches)))


def _regrouped(batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    documents = itertools.chain.from_iterable(batches)
    while texts := list(itertools.islice(documents, DOCUMENTS)):
        yield texts


def _made(
    shared: tuple[ModelTokenizer, Integers, Path | None, ChatEncoder | None],
    piece: tuple[int, Sequence[str]],
) -> Shard:
    (tokenizer, surfaces, scratch_dir, chats), (number, texts) = shared, piece
    path = scratch_dir / f"shard-{number:06d}.npz" if scratch_dir else None
    if path and path.exists():
        return Shard.read(path)
    shard = tokenised(texts, tokenizer, surfaces, chats)
    if path:
        shard.write(path)
    return shard
