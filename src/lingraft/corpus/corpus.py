"""A corpus on disk: a folder with train.parquet, heldout.parquet and counts.json.

`Corpus` reads it and `DocumentWriter` writes its files.

pyarrow is imported where a file is read or written: settings are read without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lingraft.corpus.chat import Conversation
from lingraft.errors import CorpusError, StoreError, one_line
from lingraft.store import Draft

if TYPE_CHECKING:
    from pyarrow import ChunkedArray
    from pyarrow.parquet import ParquetFile, ParquetWriter

COUNTS = "counts.json"
MESSAGES = "messages"
"""The column with the messages of a conversation as JSON, in a corpus with chats."""
SPLITS = ("train", "heldout")
NORMAL_FORMS = ("NFC", "NFKC")
"""The normal forms of `cleaning.normalise`, which the counts of changes have as names."""
MULTIPLE_LANGUAGES = "mul"
"""The BCP-47 tag of text in several languages."""
# A reader holds one row group in memory, so groups are bounded in documents and in bytes.
GROUP_DOCUMENTS = 1000
GROUP_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Counts:
    """An amount of text: documents, characters (code points) and bytes of UTF-8."""

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
        """Open the folder of a corpus; raises `CorpusError` if it is not a corpus."""
        folder = Path(folder)
        names = [COUNTS, *(f"{split}.parquet" for split in SPLITS)]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            lacks = ", ".join(missing)
            msg = f"{folder}: not a corpus, it lacks {lacks}; `lingraft adapt` builds a corpus"
            raise CorpusError(msg)
        return cls(folder, _read_counts(folder)["language"])

    @cached_property
    def report(self) -> dict[str, Any]:
        """The content of counts.json: splits, sources, and the dropped documents by reason."""
        return _read_counts(self.folder)

    @property
    def scripts(self) -> tuple[str, ...]:
        """The scripts that the text is declared to be written in; () for the language's own."""
        return tuple(self.report.get("scripts", ()))

    def counts(self, split: str) -> Counts:
        """Return the amount of text of a split ("train" or "heldout")."""
        return Counts(**self.report["splits"][_check_split(split)])

    @property
    def normal_form(self) -> str | None:
        """The Unicode normal form that all text was converted to, `None` if there is none."""
        forms = [name for name in self.report.get("changed", ()) if name in NORMAL_FORMS]
        return forms[0] if forms else None

    def converted_documents(self, form: str) -> int:
        """Return how many documents the conversion to a normal form changed."""
        return int(self.report.get("changed", {}).get(form, {}).get("documents", 0))

    @cached_property
    def has_chats(self) -> bool:
        """Whether documents may be conversations."""
        import pyarrow.parquet

        schema = pyarrow.parquet.read_schema(self.folder / "train.parquet")
        return MESSAGES in schema.names

    def documents(self, split: str) -> Iterator[str]:
        """Yield the texts of a split in shuffled order: any prefix is a fair sample."""
        for batch in self.batches(split):
            yield from batch

    def batches(self, split: str, documents: int = GROUP_DOCUMENTS) -> Iterator[list[str]]:
        """Yield the texts of a split in lists of this many documents; the last may be shorter.

        A document that is a conversation is a `Conversation`.
        """
        with self._open(split) as table:
            has_messages = MESSAGES in table.schema_arrow.names
            columns = ["text", MESSAGES] if has_messages else ["text"]
            for batch in table.iter_batches(batch_size=documents, columns=columns):
                texts = batch.column(0).to_pylist()
                if has_messages:
                    for index, messages in enumerate(batch.column(1).to_pylist()):
                        if messages:
                            texts[index] = Conversation.from_json(messages)
                yield texts

    def parts(self, split: str, size: int) -> list[range]:
        """Return the row groups of a split in parts of about this many bytes."""
        parts: list[range] = []
        start = total = 0
        with self._open(split) as table:
            for group in range(table.num_row_groups):
                total += table.metadata.row_group(group).total_byte_size
                if total >= size or group == table.num_row_groups - 1:
                    parts.append(range(start, group + 1))
                    start, total = group + 1, 0
        return parts

    def text_column(self, split: str, part: range) -> ChunkedArray:
        """Return the texts of a part of a split as a column; conversations as their contents."""
        with self._open(split) as table:
            return table.read_row_groups(list(part), columns=["text"], use_threads=False)["text"]

    @contextmanager
    def _open(self, split: str) -> Iterator[ParquetFile]:
        import pyarrow.parquet

        path = self.folder / f"{_check_split(split)}.parquet"
        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                yield table
        except (pyarrow.ArrowException, OSError) as error:
            msg = f"{path}: cannot be read ({one_line(error)}); remove its folder and run again"
            raise StoreError(msg) from error


def first_documents(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Yield whole texts until their bytes of UTF-8 reach the limit; the last may exceed it.

    >>> list(first_documents(["ab", "cd", "ef"], 3)), list(first_documents(["ab"], 0))
    (['ab', 'cd'], [])
    """
    size = 0
    for text in texts:
        if size >= limit:
            return
        yield text
        size += len(text.encode())


def _check_split(split: str) -> str:
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


def write_counts(
    draft: Draft, language: str, splits: Mapping[str, Any], notes: Mapping[str, Any]
) -> None:
    """Write counts.json: the counts of both splits, and the notes."""
    content = {"format": 1, "language": language, "splits": splits, **notes}
    draft.path(COUNTS).write_text(
        json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8"
    )


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
        import pyarrow.parquet

        columns = [("text", pyarrow.string())]
        if self._chats:
            columns.append((MESSAGES, pyarrow.string()))
        schema = pyarrow.schema(columns)
        self._writer = pyarrow.parquet.ParquetWriter(self._path, schema, compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        # After an error the file is closed, but the draft that contains it is not published.
        if kind is None:
            self._flush()
        self._writer.close()

    @property
    def counts(self) -> Counts:
        """The amount of text written so far."""
        return Counts(self.documents, self.characters, self.bytes)

    def write(self, text: str, size: int) -> None:
        """Add a document; `size` is its number of bytes."""
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
            columns = {"text": pa.array(self._group, pa.string())}
            if self._chats:
                messages = map(_messages_json, self._group)
                columns[MESSAGES] = pa.array(list(messages), pa.string())
            self._writer.write_table(pa.table(columns))
        self._group, self._group_bytes = [], 0


def _messages_json(text: str) -> str | None:
    return text.to_json() if isinstance(text, Conversation) else None
