"""A finished corpus: a folder with train.parquet, heldout.parquet and counts.json.

`blend_corpora` writes one corpus from several, interleaved so that every prefix holds each language
in its share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lingraft.corpus.chat import Conversation
from lingraft.errors import CorpusError, StoreError
from lingraft.store import Draft

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

COUNTS = "counts.json"
MESSAGES = "messages"
"""The column that holds the messages of a conversation as JSON, where a corpus has any."""
SPLITS = ("train", "heldout")
SEVERAL = "mul"
"""The BCP-47 tag of text in several languages."""
GROUP_DOCUMENTS = 1000
GROUP_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Counts:
    """How much text: documents, characters (code points) and bytes of UTF-8."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk; `language` is a BCP-47 tag or `domain:NAME`."""

    folder: Path
    language: str

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """Open the folder of a corpus; raises `CorpusError` where it is none."""
        folder = Path(folder)
        names = [COUNTS, *(f"{split}.parquet" for split in SPLITS)]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            lacks = ", ".join(missing)
            msg = f"{folder}: not a corpus, it lacks {lacks}; lingraft makes one from a recipe"
            raise CorpusError(msg)
        return cls(folder, _read_counts(folder)["language"])

    @cached_property
    def report(self) -> dict[str, Any]:
        """The whole of counts.json: splits, sources, and what was dropped for which reason."""
        return _read_counts(self.folder)

    def counts(self, split: str) -> Counts:
        """Return how much text a split ("train" or "heldout") holds."""
        return Counts(**self.report["splits"][_known(split)])

    @cached_property
    def has_chats(self) -> bool:
        """Whether documents may be conversations, whose text is that of their messages."""
        import pyarrow.parquet as pq

        return MESSAGES in pq.read_schema(self.folder / "train.parquet").names

    def documents(self, split: str) -> Iterator[str]:
        """Yield the texts of a split in shuffled order: any prefix is a fair sample."""
        for batch in self.batches(split):
            yield from batch

    def batches(self, split: str, documents: int = GROUP_DOCUMENTS) -> Iterator[list[str]]:
        """Yield the texts of a split in lists of so many documents (the last one may be shorter).

        A document that is a conversation is a `Conversation`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / f"{_known(split)}.parquet"
        try:
            with pq.ParquetFile(path) as table:
                columns = [name for name in ("text", MESSAGES) if name in table.schema_arrow.names]
                for batch in table.iter_batches(batch_size=documents, columns=columns):
                    texts = batch.column(0).to_pylist()
                    if MESSAGES in columns:
                        texts = [
                            Conversation.from_json(stored) if stored else text
                            for text, stored in zip(texts, batch.column(1).to_pylist(), strict=True)
                        ]
                    yield texts
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            msg = f"{path}: cannot be read ({reason}); remove its folder and run again"
            raise StoreError(msg) from error


def first_documents(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Yield whole texts until their bytes of UTF-8 reach the limit; the last may pass it.

    >>> list(first_documents(["ab", "cd", "ef"], 3)), list(first_documents(["ab"], 0))
    (['ab', 'cd'], [])
    """
    size = 0
    for text in texts:
        if size >= limit:
            return
        yield text
        size += len(text.encode())


def _known(split: str) -> str:
    if split not in SPLITS:
        msg = f"a corpus has the splits {' and '.join(SPLITS)}, not {split!r}"
        raise ValueError(msg)
    return split


def _read_counts(folder: Path) -> dict[str, Any]:
    path = folder / COUNTS
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}); remove its folder and run again"
        raise StoreError(msg) from error
    return report


class DocumentWriter:
    """Writes and counts documents of a parquet file, in row groups of 1,000 documents or 16 MiB.

    With `chats`, a second column keeps the messages of conversations.
    """

    def __init__(self, path: Path, *, chats: bool = False) -> None:
        self._path = path
        self._chats = chats
        self._group: list[str] = []
        self._group_bytes = 0
        self._writer: ParquetWriter
        self.documents = self.characters = self.bytes = 0

    def __enter__(self) -> Self:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = ["text", *([MESSAGES] if self._chats else [])]
        self._writer = pq.ParquetWriter(
            self._path, pa.schema([(name, pa.string()) for name in names]), compression="zstd"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    @property
    def counts(self) -> Counts:
        """What was written so far."""
        return Counts(self.documents, self.characters, self.bytes)

    def write(self, text: str, size: int) -> None:
        """Add a document; `size` are its bytes."""
        self._group.append(text)
        self._group_bytes += size
        self.documents += 1
        self.characters += len(text)
        self.bytes += size
        if len(self._group) >= GROUP_DOCUMENTS or self._group_bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._group:
            columns = {"text": pa.array([str(text) for text in self._group], pa.string())}
            if self._chats:
                columns[MESSAGES] = pa.array(
                    [
                        text.to_json() if isinstance(text, Conversation) else None
                        for text in self._group
                    ],
                    pa.string(),
                )
            self._writer.write_table(pa.table(columns))
        self._group, self._group_bytes = [], 0


def blend_corpora(corpora: Sequence[Corpus], shares: Sequence[float], draft: Draft) -> None:
    """Write one corpus from several, by shares of bytes.

    It is as large as the scarcest language allows, and no document occurs twice.
    The notes count the bytes of the other languages that are left out. All held-out text is kept.
    """
    sizes = [corpus.counts("train").bytes for corpus in corpora]
    total = min(size / share for size, share in zip(sizes, shares, strict=True))
    counts, chats = {}, any(corpus.has_chats for corpus in corpora)
    for split in SPLITS:
        with DocumentWriter(draft.path(f"{split}.parquet"), chats=chats) as writer:
            for text in (
                _interleaved(corpora, shares, total) if split == "train" else _joined(corpora)
            ):
                writer.write(text, len(text.encode()))
        counts[split] = asdict(writer.counts)
    notes = {
        "languages": [corpus.language for corpus in corpora],
        "shares": [round(share, 6) for share in shares],
        "bytes left out": {
            corpus.language: max(round(size - share * total), 0)
            for corpus, size, share in zip(corpora, sizes, shares, strict=True)
        },
    }
    draft.notes.update(counts | notes)
    content = {"format": 1, "language": SEVERAL, "splits": counts, **notes}
    draft.path(COUNTS).write_text(
        json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8"
    )


def _joined(corpora: Sequence[Corpus]) -> Iterator[str]:
    for corpus in corpora:
        yield from corpus.documents("heldout")


def _interleaved(corpora: Sequence[Corpus], shares: Sequence[float], total: float) -> Iterator[str]:
    """Yield the next document of the language that is furthest behind its share."""
    streams = [corpus.documents("train") for corpus in corpora]
    used = [0.0] * len(corpora)
    unfinished = set(range(len(corpora)))
    while unfinished:
        behind = min(unfinished, key=lambda i: (used[i] / shares[i], i))
        text = next(streams[behind], None)
        if text is None or used[behind] >= shares[behind] * total:
            unfinished.discard(behind)
            continue
        used[behind] += len(text.encode())
        yield text
