"""Files of records: JSON lines, JSON lists, CSV, TSV and parquet, read in bounded memory.

Corpora and evaluation tasks share `read_records`. Every record comes with its place, which starts
each message about it: FILE:LINE, or FILE:row N where a record has no line of its own.
A field that is null counts as an empty document. A record without the named field, or with
something else than text in it, is an error: the recipe names the wrong field.
"""

from __future__ import annotations

import codecs
import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from lingraft.corpus.chat import MESSAGES, conversation_of
from lingraft.corpus.config import Source
from lingraft.corpus.text_files import (
    COMPRESSIONS,
    ENDINGS,
    MAX_DOCUMENT_BYTES,
    ending_of,
    lines,
    open_compressed,
    whole_lines,
)
from lingraft.errors import CorpusError, did_you_mean

Record = dict[str, Any]
HEAD_BYTES = 4096
BATCH_ROWS = 256


class UnquotedTabs(csv.excel_tab):
    """TSV as data sets have it: a quotation mark has no meaning."""

    quoting = csv.QUOTE_NONE


DIALECTS: Mapping[str, type[csv.Dialect]] = {".csv": csv.excel, ".tsv": UnquotedTabs}


def read_records(
    path: Path, *, field: str | None = None, header: Sequence[str] = ()
) -> Iterator[tuple[Record, str]]:
    """Yield the records of a file, each with its place.

    Of parquet, only the column of `field` is read where one is named. `header` names the columns of
    a CSV or TSV file whose first line does not. Raises `CorpusError` that begins with the place.
    """
    ending = ending_of(path)
    if ending == ".parquet":
        yield from _parquet(path, field)
    elif ending in DIALECTS:
        yield from _table(path, DIALECTS[ending], header)
    elif ending in {".jsonl", ".json"}:
        yield from _json(path)
    else:
        known = ", ".join(other for other in ENDINGS if other != ending)
        msg = f"{path}: a {ending} file has no fields; expected one of {known}"
        raise CorpusError(msg)


def text_of(record: Mapping[str, Any], field: str, place: str) -> str:
    """Return the text of a record, "" where it is null.

    Raises `CorpusError` that lists the fields of the record.

    >>> text_of({"translation": {"hi": "नमस्ते"}}, "translation.hi", "a.jsonl:1")
    'नमस्ते'
    """
    value: Any = record
    for part in [field] if field in record else field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = value if isinstance(value, Mapping) else record
            nearest = did_you_mean(part, map(str, known))
            msg = f"{place}: there is no field {field!r} to take the text from; {nearest}"
            raise CorpusError(msg)
        value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        msg = (
            f"{place}: field {field!r} holds {_kind(value)}, expected text; name the field of the "
            f"text with text_field: (fields: {', '.join(map(str, record))})"
        )
        raise CorpusError(msg)
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = (
            f"{place}: field {field!r} holds half of a surrogate pair, which is not text; remove "
            "or repair the row"
        )
        raise CorpusError(msg) from None
    return value


def document_of(record: Mapping[str, Any], source: Source, place: str) -> str:
    """Return the document of a record: its text, or a `Conversation` of a source of chats."""
    if source.format == "chat":
        return conversation_of(record, source.text_field, place)
    try:
        return text_of(record, source.text_field, place)
    except CorpusError as error:
        held = next((name for name in MESSAGES if isinstance(record.get(name), list)), None)
        if held is None or source.text_field in record:
            raise
        msg = f"{place}: the row holds a conversation in {held!r}; set format: chat to read it"
        raise CorpusError(msg) from error


def _kind(value: object) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
        bytes: "bytes",
    }
    return names.get(type(value), type(value).__name__)


def _json(path: Path) -> Iterator[tuple[Record, str]]:
    """Read one object per line, or one list of objects."""
    with open_compressed(path) as file:
        head = file.read(HEAD_BYTES)
    if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        yield from _json_list(path)
        return
    for number, line in lines(path):
        if not line or line.isspace():
            continue
        place = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"{place}:{error.colno}: not JSON ({error.msg}); expected one object per line"
            raise CorpusError(msg) from None
        except RecursionError:
            msg = f"{place}: JSON that is nested too deeply to be read"
            raise CorpusError(msg) from None
        yield _object(value, place), place


def _json_list(path: Path) -> Iterator[tuple[Record, str]]:
    with open_compressed(path) as file:
        content = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(content) > MAX_DOCUMENT_BYTES:
        msg = (
            f"{path}: a JSON list longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB is not read as a "
            "whole; write one object per line instead (jq -c '.[]')"
        )
        raise CorpusError(msg)
    try:
        values = json.loads(content)
    except json.JSONDecodeError as error:
        msg = f"{path}:{error.lineno}:{error.colno}: not JSON ({error.msg})"
        raise CorpusError(msg) from None
    except UnicodeDecodeError as error:
        byte = content[error.start]
        msg = f"{path}: byte 0x{byte:02x} at offset {error.start} is not UTF-8"
        raise CorpusError(msg) from None
    except RecursionError:
        msg = f"{path}: JSON that is nested too deeply to be read"
        raise CorpusError(msg) from None
    for number, value in enumerate(values, start=1):
        place = f"{path}:row {number}"
        yield _object(value, place), place


def _object(value: object, place: str) -> Record:
    if not isinstance(value, dict):
        msg = f"{place}: holds {_kind(value)}, expected an object with named fields"
        raise CorpusError(msg)
    return value


def _table(
    path: Path, dialect: type[csv.Dialect], header: Sequence[str]
) -> Iterator[tuple[Record, str]]:
    """Read CSV or TSV; a quoted cell may span lines, and the place is the first of them."""
    csv.field_size_limit(MAX_DOCUMENT_BYTES)  # the default, 128 KiB, is less than a long document
    texts = (text for _, text in whole_lines(path))
    # Strict: an unclosed quotation mark would otherwise take the rest of the file into one cell.
    reader = csv.reader(texts, dialect, strict=True)
    names: list[str] = []
    start = 1
    try:
        for cells in reader:
            place = f"{path}:{start}"
            start = reader.line_num + 1
            if not cells:
                continue
            if not names:
                has_names = not header or set(header) <= set(cells)
                names = cells if has_names else list(header)
                if has_names:
                    continue
            if len(cells) > len(names):
                msg = (
                    f"{place}: {len(cells)} cells for {len(names)} columns ({', '.join(names)}); "
                    "quote the cells that hold the delimiter"
                )
                raise CorpusError(msg)
            yield dict(zip(names, cells, strict=False)), place
    except csv.Error as error:
        msg = f"{path}:{start}: not CSV ({error}); write the file again with a CSV library"
        raise CorpusError(msg) from None


def _parquet(path: Path, field: str | None) -> Iterator[tuple[Record, str]]:
    with open_compressed(path) as stream:
        if not path.name.lower().endswith(COMPRESSIONS):
            yield from _parquet_rows(path, stream, field)
            return
        # Parquet is read from its end, so a compressed file is unpacked to disk first.
        with tempfile.TemporaryFile() as file:
            shutil.copyfileobj(stream, file)
            yield from _parquet_rows(path, file, field)


def _parquet_rows(path: Path, file: IO[bytes], field: str | None) -> Iterator[tuple[Record, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            columns = [_column(path, table.schema_arrow.names, field)] if field else None
            number = 0
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield record, f"{path}:row {number}"
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        msg = f"{path}: cannot be read as parquet ({reason}); write it again"
        raise CorpusError(msg) from None


def _column(path: Path, names: Sequence[str], field: str) -> str:
    """Return the column of a field, which may be inside a mapping (`translation.hi`)."""
    column = field if field in names else field.split(".", maxsplit=1)[0]
    if column not in names:
        nearest = did_you_mean(column, names)
        msg = f"{path}: there is no column {column!r} to take the text from; {nearest}"
        raise CorpusError(msg)
    return column
