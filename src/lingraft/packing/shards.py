"""Tokenise documents in shards, which several processes can do at the same time.

A shard holds the ids of `DOCUMENTS` documents, the bytes that each id covers, and the number of ids
of each document. Which documents a shard holds depends only on their order. The packed text is
therefore the same for any number of processes, and when a run resumes with stored shards. A shard
file is written atomically.
"""

from __future__ import annotations

import itertools
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lingraft.corpus.chat import Conversation
from lingraft.packing.chat_encoder import NO_TEMPLATE, ChatEncoder
from lingraft.progress import say
from lingraft.store import atomic_file
from lingraft.tokenizer import ModelTokenizer
from lingraft.workers import HERE, Workers

Integers = NDArray[np.int64]

DOCUMENTS = 1000
"""The number of documents in a shard."""


@dataclass(frozen=True)
class Shard:
    """The concatenated ids of documents, the bytes that each id covers, and ids per document.

    Empty documents are left out. `mentions` counts the special tokens in the texts; they are
    encoded as text. `chats` is the number of conversations that the chat template rendered, and
    `refused` the number that it refused, by reason.
    """

    ids: Integers
    sizes: Integers
    lengths: Integers
    mentions: Mapping[str, int] = field(default_factory=dict)
    chats: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Integers, Integers]]:
        """Yield the ids of each document and the bytes that they cover."""
        if not len(self.lengths):
            return
        ends = np.cumsum(self.lengths)[:-1]
        yield from zip(np.split(self.ids, ends), np.split(self.sizes, ends), strict=True)

    def write(self, path: Path) -> None:
        """Write the shard atomically."""
        # uint32 halves the files; ids and sizes of tokens always fit.
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
        """Read a shard that `write` has written."""
        # Opened here, because numpy does not close a damaged file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = [stored[name].astype(np.int64) for name in ("ids", "sizes", "lengths")]
            return cls(*arrays, *json.loads(str(stored["counts"])))


def tokenise_documents(
    texts: Sequence[str],
    tokenizer: ModelTokenizer,
    surfaces: Integers,
    chats: ChatEncoder | None = None,
) -> Shard:
    """Return the shard of these documents; `surfaces` are the `surface_sizes` of the tokenizer.

    `chats` encodes conversations. The bytes of a conversation are those of its messages, without
    the markup of the template.
    """
    plain = [text for text in texts if not isinstance(text, Conversation)]
    # Plain texts are encoded in one batch, which the tokenizer does in parallel.
    encoded, refused = iter(tokenizer.encode(plain)), Counter[str]()
    ids_of_documents: list[Integers] = []
    sizes_of_documents: list[Integers] = []
    for text in texts:
        if isinstance(text, Conversation):
            ids, reason = chats.encode(text.messages) if chats else ([], NO_TEMPLATE)
            refused.update([reason] if reason else [])
        else:
            ids = next(encoded)
        if ids:
            array = np.array(ids, dtype=np.int64)
            ids_of_documents.append(array)
            sizes_of_documents.append(covered_bytes(surfaces[array], len(text.encode())))
    empty = np.zeros(0, dtype=np.int64)
    return Shard(
        ids=np.concatenate([empty, *ids_of_documents]),
        sizes=np.concatenate([empty, *sizes_of_documents]),
        lengths=np.array([len(ids) for ids in ids_of_documents], dtype=np.int64),
        mentions=tokenizer.family.special_text.count(texts),
        chats=len(texts) - len(plain) - refused.total(),
        refused=refused,
    )


def surface_sizes(tokenizer: ModelTokenizer) -> Integers:
    """Return the number of bytes of the surface of each id (0 for an id without one)."""
    surfaces = tokenizer.vocabulary.surfaces
    return np.array([len(surface or b"") for surface in surfaces], dtype=np.int64)


def covered_bytes(sizes: Integers, total: int) -> Integers:
    """Distribute the bytes of a document over its tokens, in proportion to their surfaces.

    `sizes` are the bytes of the surfaces, `total` those of the document. Their sum differs from
    `total` if a normalizer changes the text. The sum of the result is exactly `total`.

    >>> covered_bytes(np.array([2, 3]), 5).tolist(), covered_bytes(np.array([3, 3]), 5).tolist()
    ([2, 3], [2, 3])
    """
    # Differences of rounded running sums add up exactly; rounded shares would not.
    ends = np.cumsum(sizes)
    # In a document of unknown tokens only, no token has a surface, so all get the same share.
    if not ends[-1]:
        ends = np.arange(1, len(sizes) + 1)
    shares: Integers = np.diff(ends * total // ends[-1], prepend=0)
    return shares


def tokenise_in_shards(
    batches: Iterable[Sequence[str]],
    tokenizer: ModelTokenizer,
    *,
    workers: Workers = HERE,
    scratch_dir: Path | None = None,
    chats: ChatEncoder | None = None,
) -> Iterator[Shard]:
    """Yield the shards of a text in order; those stored in `scratch_dir` are read from there.

    Memory does not grow with the text.
    """
    shared = (tokenizer, surface_sizes(tokenizer), scratch_dir, chats)
    yield from workers.map(_make_shard, shared, enumerate(_regroup(batches)))


def _regroup(batches: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Yield groups of `DOCUMENTS` documents, for batches of any size."""
    documents = itertools.chain.from_iterable(batches)
    while texts := list(itertools.islice(documents, DOCUMENTS)):
        yield texts


def _read_stored(path: Path) -> Shard | None:
    """Return a stored shard, `None` if it is damaged: the file has a CRC of each array."""
    try:
        return Shard.read(path)
    # What numpy and zipfile raise for a file that was cut off or changed.
    except (OSError, ValueError, KeyError, EOFError, TypeError, zlib.error, zipfile.BadZipFile):
        say(f"{path}: the stored shard is damaged; tokenising its text again")
        return None


def _make_shard(
    shared: tuple[ModelTokenizer, Integers, Path | None, ChatEncoder | None],
    group: tuple[int, Sequence[str]],
) -> Shard:
    (tokenizer, surfaces, scratch_dir, chats), (number, texts) = shared, group
    path = scratch_dir / f"shard-{number:06d}.npz" if scratch_dir else None
    stored = _read_stored(path) if path and path.exists() else None
    if stored is not None:
        return stored
    shard = tokenise_documents(texts, tokenizer, surfaces, chats)
    if path:
        shard.write(path)
    return shard
