"""Read files of records in bounded memory: JSON lines, JSON lists, CSV, TSV and other kinds.

Corpora and evaluation tasks share `read_records`. Each record comes with its place, with which the
messages about it start: FILE:LINE, or FILE:row N if a record has no line number. A null field is an
empty document. A record without the named field, or with a field that is not text, is an error,
because the recipe names the wrong field.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence

from lingraft.corpus.columnar_files import Record, check_unambiguous, read_columnar
from lingraft.corpus.compression import open_compressed
from lingraft.corpus.record_values import kind_of_value
from lingraft.corpus.remote_files import TextFile
from lingraft.corpus.text_files import (
    MAX_DOCUMENT_BYTES,
    ending_of,
    read_lines,
    read_raw_lines,
)
from lingraft.corpus.warc import read_warc
from lingraft.errors import CorpusError
from lingraft.file_kinds import RECORD_KINDS
from lingraft.formatting import counted

HEAD_BYTES = 4096
"""Bytes that show whether a JSON file starts with a list."""


HEAD_CHARACTERS = 2**20
"""Characters of a table that show its delimiter, and in TSV whether cells are quoted."""


class UnquotedTabs(csv.excel_tab):
    """TSV without quoting: data sets use quotation marks as plain text.

    A file whose cells are quoted as in CSV is read as such (`_tsv_dialect`).
    """

    quoting = csv.QUOTE_NONE


class Semicolons(csv.excel):
    """CSV as spreadsheets write it where the comma is the decimal mark."""

    delimiter = ";"


SEPARATOR_CELLS = ["sep=", ""]
"""The line `sep=;` that tells a spreadsheet the delimiter, split at it."""

DIALECTS: Mapping[str, type[csv.Dialect]] = {".csv": csv.excel, ".tsv": UnquotedTabs}


def read_records(
    path: TextFile, *, fields: Sequence[str] = (), header: Sequence[str] = ()
) -> Iterator[tuple[Record, str]]:
    """Yield the records of a file, each with its place.

    With `fields`, only their columns are read from a parquet or arrow file, and in a CSV or TSV
    file other columns may have the same name. `header` names the columns of a CSV or TSV file
    whose first line does not name them. Raises `CorpusError`.
    """
    ending = ending_of(path)
    if ending in {".parquet", ".arrow"}:
        yield from read_columnar(path, fields)
    elif ending in {".wet", ".warc"}:
        yield from read_warc(path)
    elif ending in DIALECTS:
        yield from _read_table(path, DIALECTS[ending], fields, header)
    elif ending in {".jsonl", ".json"}:
        yield from _read_json(path)
    else:
        msg = f"{path}: a {ending} file has no fields; expected one of {RECORD_KINDS}"
        raise CorpusError(msg)


def _read_json(path: TextFile) -> Iterator[tuple[Record, str]]:
    """Read one object per line, one list of messages per line, or one list of objects."""
    # The ending does not decide: many .json files have one object per line.
    with open_compressed(path) as file:
        head = file.read(HEAD_BYTES)
    starts_with_list = head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    if starts_with_list and not _has_list_per_line(path):
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
        except ValueError:
            raise CorpusError(_too_many_digits(place)) from None
        if starts_with_list and isinstance(value, list):
            value = _conversation_record(value, place)
        yield _check_object(value, place), place


def _has_list_per_line(path: TextFile) -> bool:
    """Return whether the first line is a whole JSON list, and another line begins with one."""
    lines: list[bytes] = []  # the first two that are not blank
    with open_compressed(path) as file:
        while len(lines) < 2 and (raw := file.readline(MAX_DOCUMENT_BYTES + 1)):
            if raw.strip():
                lines.append(raw)
    if len(lines) < 2 or not lines[1].lstrip().startswith(b"["):
        return False
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        return False
    return True


def _conversation_record(entries: list[object], place: str) -> Record:
    """Return the record of a line that is a list: its messages, in the field `messages`."""
    if all(isinstance(entry, dict) for entry in entries):
        return {"messages": entries}
    msg = (
        f"{place}: the line is a list, but not of messages with role and content; write "
        '{"text": ...} for each document, or {"messages": [...]} for each conversation'
    )
    raise CorpusError(msg)


def _read_json_list(path: TextFile) -> Iterator[tuple[Record, str]]:
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
    except ValueError:
        raise CorpusError(_too_many_digits(str(path))) from None
    for number, value in enumerate(values, start=1):
        place = f"{path}:row {number}"
        yield _check_object(value, place), place


def _too_many_digits(place: str) -> str:
    # The one other ValueError of `json`: Python bounds the time of reading an integer.
    digits = f"{sys.get_int_max_str_digits():,}"
    return f"{place}: an integer has more than {digits} digits; write it as a string, or remove it"


def _check_object(value: object, place: str) -> Record:
    if not isinstance(value, dict):
        msg = (
            f"{place}: expected an object with named fields, got {kind_of_value(value)}; write "
            '{"text": ...} for each document'
        )
        raise CorpusError(msg)
    return value


def _read_table(
    path: TextFile, dialect: type[csv.Dialect], fields: Sequence[str], header: Sequence[str]
) -> Iterator[tuple[Record, str]]:
    """Read CSV or TSV; a quoted cell may span several lines, and its place is the first line."""
    csv.field_size_limit(MAX_DOCUMENT_BYTES)  # a long document exceeds the default of 128 KiB
    texts: Iterator[str] = (text for _, text in read_raw_lines(path))
    head = list(_first_characters(texts, HEAD_CHARACTERS))
    following = next(texts, None)
    texts = itertools.chain(head, [] if following is None else [following], texts)
    if dialect is UnquotedTabs:
        dialect = _tsv_dialect(head, header, is_whole=following is None)
    elif not header:
        # Up to the names of the columns.
        dialect = _csv_dialect(next((line for line in head if line.strip()), ","))
    # Without `strict`, an unclosed quotation mark would read the rest of the file into one cell.
    reader = csv.reader(texts, dialect, strict=True)
    names: list[str] = []
    start = 1
    try:
        for cells in reader:
            place = f"{path}:{start}"
            start = reader.line_num + 1
            if not cells or (not names and cells == SEPARATOR_CELLS):
                continue
            if not names:
                has_names = not header or set(header) <= set(cells)
                names = cells if has_names else list(header)
                if has_names:
                    check_unambiguous(names, fields or header, place)
                    continue
            _check_row(cells, names, fields, place)
            yield dict(zip(names, cells, strict=False)), place
    except csv.Error as error:
        msg = f"{path}:{start}: not CSV ({error}); write the file again with a CSV library"
        raise CorpusError(msg) from None


def _check_row(
    cells: Sequence[str], names: Sequence[str], fields: Sequence[str], place: str
) -> None:
    """Raise `CorpusError` for a row whose cells are not those of the columns."""
    if len(cells) > len(names):
        msg = (
            f"{place}: {len(cells)} cells for {len(names)} columns ({', '.join(names)}); quote the "
            "cells that contain the delimiter"
        )
        raise CorpusError(msg)
    if missing := [name for name in fields if name in names[len(cells) :]]:
        msg = (
            f"{place}: {counted(len(cells), 'cell')} for {len(names)} columns "
            f"({', '.join(names)}), and {missing[0]!r} is not one of them; complete the row, or "
            "remove it"
        )
        raise CorpusError(msg)


def _tsv_dialect(
    head: Sequence[str], header: Sequence[str], *, is_whole: bool
) -> type[csv.Dialect]:
    """Return the dialect of a .tsv file by its first lines: unquoted, or as CSV with tabs.

    They are quoted if every name of the columns is in quotation marks, as R writes them. They are
    also if they can be read as CSV, every row has the cells of the first, and a cell is in
    quotation marks that it needs: for a tab, for marks inside it, which are doubled, or for a line
    end in a table of several columns. `is_whole` says that no line follows.
    """
    if _has_quoted_names(head, header):
        return csv.excel_tab
    rows, is_needed = [], False
    text = "".join(head)
    written = {cell for line in head for cell in line.rstrip("\r\n").split("\t")}
    try:
        for cells in csv.reader(head, csv.excel_tab, strict=True):
            rows.append(cells)
            for cell in cells:
                quoted = '"' + cell.replace('"', '""') + '"'
                # Searching all of the text is slow, so only cells of several lines are looked for.
                is_there = quoted in written or ("\n" in cell and quoted in text)
                is_needed |= "\t" in cell or ('"' in cell and is_there)
                is_needed |= "\n" in cell and len(cells) > 1
    except csv.Error as error:
        # The last row may go on after the first lines.
        if is_whole or "unexpected end" not in str(error):
            return UnquotedTabs
    if not is_whole:
        rows = rows[:-1]
    widths = {len(cells) for cells in rows if cells}
    return csv.excel_tab if is_needed and len(widths) == 1 else UnquotedTabs


def _has_quoted_names(head: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether the first line names the columns, each name in quotation marks."""
    cells = next((line for line in head if line.strip()), "").rstrip("\r\n").split("\t")
    names = {cell[1:-1] for cell in cells if len(cell) > 1 and cell[0] == cell[-1] == '"'}
    # Without names, the first line is a record, whose quotation marks may be text.
    return len(names) == len(cells) and set(header) <= names


def _first_characters(texts: Iterator[str], size: int) -> Iterator[str]:
    """Yield the first lines with about so many characters."""
    read = 0
    for text in texts:
        yield text
        read += len(text)
        if read >= size:
            return


def _csv_dialect(line: str) -> type[csv.Dialect]:
    """Return the dialect of a .csv file by its first line: comma, or semicolon or tab alone."""
    if "," not in line:
        for dialect in (Semicolons, csv.excel_tab):
            if dialect.delimiter in line:
                return dialect
    return csv.excel
