"""Read files of records in bounded memory: JSON lines, JSON lists, CSV, TSV and parquet.

Corpora and evaluation tasks share `read_records`. Each record comes with its place, with which the
messages about it start: FILE:LINE, or FILE:row N if a record has no line number. A null field is an
empty document. A record without the named field, or with a field that is not text, is an error,
because the recipe names the wrong field.
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

from lingraft.corpus.chat import MESSAGE_FIELDS, parse_conversation
from lingraft.corpus.config import Source
from lingraft.corpus.text_files import (
    COMPRESSIONS,
    ENDINGS,
    MAX_DOCUMENT_BYTES,
    ending_of,
    open_compressed,
    read_lines,
    read_raw_lines,
)
from lingraft.errors import CorpusError, did_you_mean

Record = dict[str, Any]
HEAD_BYTES = 4096
"""Bytes that show whether a JSON file starts with a list."""
BATCH_RECORDS = 256
"""Parquet records in memory at a time."""


class UnquotedTabs(csv.excel_tab):
    """TSV without quoting: data sets use quotation marks as plain text."""

    quoting = csv.QUOTE_NONE


DIALECTS: Mapping[str, type[csv.Dialect]] = {".csv": csv.excel, ".tsv": UnquotedTabs}


def read_records(
    path: Path, *, field: str | None = None, header: Sequence[str] = ()
) -> Iterator[tuple[Record, str]]:
    """Yield the records of a file, each with its place.

    With `field`, only the column of this field is read from a parquet file. `header` names the
    columns of a CSV or TSV file whose first line does not name them. Raises `CorpusError`.
    """
    ending = ending_of(path)
    if ending == ".parquet":
        yield from _read_parquet(path, field)
    elif ending in DIALECTS:
        yield from _read_table(path, DIALECTS[ending], header)
    elif ending in {".jsonl", ".json"}:
        yield from _read_json(path)
    else:
        known = ", ".join(other for other in ENDINGS if other != ending)
        msg = f"{path}: a {ending} file has no fields; expected one of {known}"
        raise CorpusError(msg)


def record_text(record: Mapping[str, Any], field: str, place: str) -> str:
    """Return the text of a field, "" if it is null.

    Raises `CorpusError` that lists the fields of the record.

    >>> record_text({"translation": {"hi": "नमस्ते"}}, "translation.hi", "a.jsonl:1")
    'नमस्ते'
    """
    value: Any = record
    # A field whose own name contains a dot takes precedence over the nested field.
    for part in [field] if field in record else field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = value if isinstance(value, Mapping) else record
            nearest = did_you_mean(part, map(str, known))
            msg = f"{place}: no field {field!r} to take the text from; {nearest}"
            raise CorpusError(msg)
        value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        msg = (
            f"{place}: field {field!r} is {_kind(value)}, expected text; set text_field to the "
            f"field of the text (fields: {', '.join(map(str, record))})"
        )
        raise CorpusError(msg)
    try:
        value.encode()  # JSON can escape half of a surrogate pair, which UTF-8 cannot encode
    except UnicodeEncodeError:
        msg = (
            f"{place}: field {field!r} contains half of a surrogate pair, which is not text; "
            "remove or correct the record"
        )
        raise CorpusError(msg) from None
    return value


def record_document(record: Mapping[str, Any], source: Source, place: str) -> str:
    """Return the document of a record: its text, or a `Conversation` for the format chat."""
    if source.format == "chat":
        return parse_conversation(record, source.text_field, place)
    try:
        return record_text(record, source.text_field, place)
    except CorpusError as error:
        chat = next((name for name in MESSAGE_FIELDS if isinstance(record.get(name), list)), None)
        if chat is None or source.text_field in record:
            raise
        msg = f"{place}: field {chat!r} is a conversation; set format: chat to read it"
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


def _read_json(path: Path) -> Iterator[tuple[Record, str]]:
    """Read one object per line, or one list of objects."""
    # The ending does not decide: many .json files have one object per line.
    with open_compressed(path) as file:
        head = file.read(HEAD_BYTES)
    if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        yield from _read_json_list(path)
        return
    for number, line in read_lines(path):
        if not line or line.isspace():
            continue
        place = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            msg = f"{place}:{error.colno}: not JSON ({error.msg}); expected one object per line"
            raise CorpusError(msg) from None
        except RecursionError:
            msg = f"{place}: the JSON is nested too deeply; remove the line"
            raise CorpusError(msg) from None
        yield _check_object(value, place), place


def _read_json_list(path: Path) -> Iterator[tuple[Record, str]]:
    with open_compressed(path) as file:
        content = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(content) > MAX_DOCUMENT_BYTES:
        msg = (
            f"{path}: the JSON list is longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB and must fit "
            "into memory; write one object per line (jq -c '.[]')"
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
        msg = f"{path}: the JSON is nested too deeply; write one object per line"
        raise CorpusError(msg) from None
    for number, value in enumerate(values, start=1):
        place = f"{path}:row {number}"
        yield _check_object(value, place), place


def _check_object(value: object, place: str) -> Record:
    if not isinstance(value, dict):
        msg = f"{place}: expected an object with named fields, got {_kind(value)}"
        raise CorpusError(msg)
    return value


def _read_table(
    path: Path, dialect: type[csv.Dialect], header: Sequence[str]
) -> Iterator[tuple[Record, str]]:
    """Read CSV or TSV; a quoted cell may span several lines, and its place is the first line."""
    csv.field_size_limit(MAX_DOCUMENT_BYTES)  # a long document exceeds the default of 128 KiB
    texts = (text for _, text in read_raw_lines(path))
    # Without `strict`, an unclosed quotation mark would read the rest of the file into one cell.
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
                    "quote the cells that contain the delimiter"
                )
                raise CorpusError(msg)
            yield dict(zip(names, cells, strict=False)), place
    except csv.Error as error:
        msg = f"{path}:{start}: not CSV ({error}); write the file again with a CSV library"
        raise CorpusError(msg) from None


def _read_parquet(path: Path, field: str | None) -> Iterator[tuple[Record, str]]:
    with open_compressed(path) as stream:
        if not path.name.lower().endswith(COMPRESSIONS):
            yield from _parquet_records(path, stream, field)
            return
        # A reader of parquet starts at the end of the file, so a compressed file is unpacked first.
        with tempfile.TemporaryFile() as file:
            shutil.copyfileobj(stream, file)
            yield from _parquet_records(path, file, field)


def _parquet_records(
    path: Path, file: IO[bytes], field: str | None
) -> Iterator[tuple[Record, str]]:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            columns = [_column(path, table.schema_arrow.names, field)] if field else None
            number = 0
            for batch in table.iter_batches(batch_size=BATCH_RECORDS, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield record, f"{path}:row {number}"
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        msg = f"{path}: cannot be read as parquet ({reason}); write it again"
        raise CorpusError(msg) from None


def _column(path: Path, names: Sequence[str], field: str) -> str:
    """Return the column of a field, which may be nested in the column (`translation.hi`)."""
    column = field if field in names else field.split(".", maxsplit=1)[0]
    if column not in names:
        nearest = did_you_mean(column, names)
        msg = f"{path}: no column {column!r} to take the text from; {nearest}"
        raise CorpusError(msg)
    return column
