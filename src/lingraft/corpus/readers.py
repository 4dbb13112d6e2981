"""Readers: a source becomes a stream of documents, one text after the other, in bounded memory.

A field that is null counts as an empty document. A row without the named field, or with something else than text in
it, is an error: it means that the recipe names the wrong field.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from lingraft.corpus.chat import MESSAGES, conversation_of, from_markup
from lingraft.corpus.config import Source
from lingraft.corpus.files import COMPRESSIONS, MAX_DOCUMENT_BYTES, ending_of, find_files, lines, opened
from lingraft.errors import CorpusError, did_you_mean


def read_source(source: Source, language: str) -> Generator[str, None, None]:
    """Yield the documents of a source, up to the source's own limit; close it where not all of them are wanted."""
    documents = size = 0
    with closing(_everything(source, language)) as texts:
        for text in texts:
            documents, size = documents + 1, size + len(text.encode())
            if source.limit is not None and not source.limit.allows(documents, size):
                return
            yield text


def _everything(source: Source, language: str) -> Generator[str, None, None]:
    if source.hub is not None:
        from lingraft.corpus.hub_dataset import read_hub

        yield from read_hub(source)
    elif source.miniature is not None:
        from lingraft.miniature import stories

        yield from stories(language, count=source.miniature.stories, seed=source.miniature.seed)
    else:
        for path in find_files(str(source.path)):
            yield from read_file(path, source)


def read_file(path: Path, source: Source) -> Iterator[str]:
    """Yield the documents of one local file; raises `CorpusError` with file, line and column or byte."""
    ending = ending_of(path)
    if source.documents != "line" and ending != ".txt":
        msg = f"{path}: documents: {source.documents} is for .txt files; in {ending} files every row is a document"
        raise CorpusError(msg)
    reader = {".txt": _plain, ".jsonl": _json_lines, ".json": _json, ".parquet": _parquet}[ending]
    yield from reader(path, source)


def text_of(row: Mapping[str, Any], field: str, place: str) -> str:
    """Return the text of a row, "" where it is null; raises `CorpusError` that says what the row has.

    >>> text_of({"translation": {"hi": "नमस्ते"}}, "translation.hi", "a.jsonl, line 1")
    'नमस्ते'
    """
    value: Any = row
    for part in [field] if field in row else field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = value if isinstance(value, Mapping) else row
            msg = f"{place}: there is no field {field!r} to take the text from; {did_you_mean(part, map(str, known))}"
            raise CorpusError(msg)
        value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        msg = (f"{place}: field {field!r} holds {_kind(value)}, expected text; name the field of the text with "
               f"text: (fields: {', '.join(map(str, row))})")
        raise CorpusError(msg)
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"{place}: field {field!r} holds half of a surrogate pair, which is no text; remove or repair the row"
        raise CorpusError(msg) from None
    return value


def document_of(row: Mapping[str, Any], source: Source, place: str) -> str:
    """Return the document of a row: its text, or a `Conversation` where the source holds chats."""
    if source.format == "chat":
        return conversation_of(row, source.text, place)
    try:
        return text_of(row, source.text, place)
    except CorpusError as error:
        held = next((name for name in MESSAGES if isinstance(row.get(name), list)), None)
        if held is None or source.text in row:
            raise
        msg = f"{place}: the row holds a conversation in {held!r}; read it as one with format: chat"
        raise CorpusError(msg) from error


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping",
             bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


def _plain(path: Path, source: Source) -> Iterator[str]:
    for number, text in _plain_texts(path, source):
        yield from_markup(text, f"{path}, line {number}") if source.format == "chat" else text


def _plain_texts(path: Path, source: Source) -> Iterator[tuple[int, str]]:
    """Yield the documents of a .txt file, each with the number of its last line."""
    numbered = lines(path)
    if source.documents == "line":
        yield from numbered
        return
    held: list[str] = []
    size = number = 0
    for number, text in numbered:
        if source.documents == "paragraph" and not text.strip():
            if held:
                yield number, "\n".join(held)
            held, size = [], 0
            continue
        held.append(text)
        size += len(text.encode()) + 1
        if size > MAX_DOCUMENT_BYTES:
            smaller = {"file": "paragraph or line", "paragraph": "line"}[source.documents]
            msg = (f"{path}, line {number}: the document is longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB, and is "
                   f"held in memory whole; choose documents: {smaller}")
            raise CorpusError(msg)
    if held:
        yield number, "\n".join(held)


def _json_lines(path: Path, source: Source) -> Iterator[str]:
    for number, line in lines(path):
        if not line or line.isspace():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"{place}, column {error.colno}: not JSON ({error.msg}); every line holds one object"
            raise CorpusError(msg) from None
        except RecursionError:
            msg = f"{place}: JSON that is nested too deeply to be read"
            raise CorpusError(msg) from None
        yield _row_text(row, source, place)


def _json(path: Path, source: Source) -> Iterator[str]:
    """Read a .json file: lines of objects, or one list of objects, which has to fit into memory."""
    with opened(path) as file:
        head = file.read(MAX_DOCUMENT_BYTES + 1)
    if not head.lstrip().startswith(b"["):
        yield from _json_lines(path, source)
        return
    if len(head) > MAX_DOCUMENT_BYTES:
        msg = (f"{path}: a JSON list longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB is not read as a whole; write one "
               f"object a line instead (jq -c '.[]')")
        raise CorpusError(msg)
    try:
        rows = json.loads(head)
    except json.JSONDecodeError as error:
        msg = f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg})"
        raise CorpusError(msg) from None
    except UnicodeDecodeError as error:
        msg = f"{path}: byte 0x{head[error.start]:02x} at offset {error.start} is not UTF-8"
        raise CorpusError(msg) from None
    for number, row in enumerate(rows, start=1):
        yield _row_text(row, source, f"{path}, entry {number}")


def _row_text(row: object, source: Source, place: str) -> str:
    if not isinstance(row, dict):
        msg = f"{place}: holds {_kind(row)}, expected an object with the field {source.text!r}"
        raise CorpusError(msg)
    return document_of(row, source, place)


def _parquet(path: Path, source: Source) -> Iterator[str]:
    with opened(path) as stream:
        if not path.name.lower().endswith(COMPRESSIONS):
            yield from _parquet_rows(path, stream, source)
            return
        with tempfile.TemporaryFile() as file:  # parquet is read from its end: a compressed one is unpacked to disk
            shutil.copyfileobj(stream, file)
            yield from _parquet_rows(path, file, source)


def _parquet_rows(path: Path, file: IO[bytes], source: Source) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            column = source.text if source.text in names else source.text.split(".")[0]
            if column not in names and source.format == "text":
                msg = f"{path}: there is no column {column!r} to take the text from; {did_you_mean(column, names)}"
                raise CorpusError(msg)
            number = 0
            for batch in table.iter_batches(batch_size=256, columns=None if source.format == "chat" else [column]):
                for row in batch.to_pylist():
                    number += 1
                    yield document_of(row, source, f"{path}, row {number}")
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        msg = f"{path}: cannot be read as parquet ({reason}); write it again"
        raise CorpusError(msg) from None

