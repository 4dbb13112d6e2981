"""Read parquet and arrow files as records, in bounded memory.

Arrow files are what `datasets` writes (`save_to_disk`, its cache): the stream format, or the file
format, whose reader needs the end of the file first.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lingraft.corpus.compression import open_compressed
from lingraft.corpus.remote_files import TextFile
from lingraft.errors import CorpusError, one_line
from lingraft.file_kinds import COMPRESSIONS
from lingraft.store import disk_errors, temporary_folder

if TYPE_CHECKING:
    from pyarrow import RecordBatch

Record = dict[str, Any]
BATCH_RECORDS = 256
"""Records in memory at a time."""
BUFFER_BYTES = 2**20
"""Bytes of a column of a parquet file that are read at a time."""
_ARROW_FILE = b"ARROW1"
DATASET_DICT = "dataset_dict.json"
"""The file that makes a folder a `DatasetDict` of `datasets`."""


def read_columnar(path: TextFile, fields: Sequence[str]) -> Iterator[tuple[Record, str]]:
    """Yield the records of a parquet or arrow file, each with its place.

    With `fields`, only their columns are read, if all exist; two other columns may have one name.
    Raises `CorpusError`.
    """
    import pyarrow as pa

    kind = "parquet" if ".parquet" in path.name.lower() else "arrow"
    batches = _parquet_batches if kind == "parquet" else _arrow_batches
    number = 0
    try:
        with _seekable(path) as file:
            for batch in batches(file, fields, str(path)):
                for record in _records(batch):
                    number += 1
                    yield record, f"{path}:row {number}"
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at offset {error.start} of a field"
        msg = f"{path}:row {number + 1}: {byte} is not UTF-8; correct or remove the record"
        raise CorpusError(msg) from None
    except (pa.ArrowException, OSError) as error:
        msg = f"{path}: cannot be read as {kind} ({one_line(error)}); write it again"
        raise CorpusError(msg) from None


def _records(batch: RecordBatch) -> Iterable[Record]:
    """Return the records of a batch; of one with broken text, those before it are yielded."""
    try:
        records: list[Record] = batch.to_pylist()
    except UnicodeDecodeError:
        return (batch.slice(row, 1).to_pylist()[0] for row in range(batch.num_rows))
    return records


@contextmanager
def _seekable(path: TextFile) -> Iterator[IO[bytes]]:
    """Open a file so that a reader can start at its end: a compressed one is unpacked first."""
    with ExitStack() as stack:
        stream = stack.enter_context(open_compressed(path))
        if not path.name.lower().endswith(COMPRESSIONS):
            yield stream
            return
        # A full disk is no fault of the file, although both are an `OSError`.
        folder = temporary_folder()
        with disk_errors(folder, f"{path} is unpacked", option="TMPDIR"):
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            shutil.copyfileobj(stream, file)
        file.seek(0)
        yield file


def _parquet_batches(file: IO[bytes], fields: Sequence[str], place: str) -> Iterator[RecordBatch]:
    import pyarrow.parquet

    # Buffered: otherwise a column of a whole row group is in memory, of some files all the text.
    with pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES) as table:
        check_unambiguous(table.schema_arrow.names, fields, place)
        columns = columns_of(table.schema_arrow.names, fields)
        yield from table.iter_batches(batch_size=BATCH_RECORDS, columns=columns)


def _arrow_batches(file: IO[bytes], fields: Sequence[str], place: str) -> Iterator[RecordBatch]:
    from pyarrow import ipc

    is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
    file.seek(0)
    if is_file:
        reader = ipc.open_file(file)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        reader = ipc.open_stream(file)
        batches = iter(reader)
    check_unambiguous(reader.schema.names, fields, place)
    columns = columns_of(reader.schema.names, fields)
    for batch in batches:
        selected = batch.select(columns) if columns else batch
        for start in range(0, selected.num_rows, BATCH_RECORDS):
            yield selected.slice(start, BATCH_RECORDS)


def columns_of(names: Sequence[str], fields: Sequence[str]) -> list[str] | None:
    """Return the columns of fields, which may be nested in them (`translation.hi`).

    `None` stands for all columns: without fields, and if a column is missing, so that the error
    about the record shows what there is.

    >>> columns_of(["id", "text", "metadata"], ["text", "metadata.score", "metadata.size"])
    ['text', 'metadata']
    """
    columns: dict[str, None] = {}
    for field in fields:
        column = field if field in names else field.split(".", maxsplit=1)[0]
        if column not in names:
            return None
        columns[column] = None
    return list(columns) or None


def check_unambiguous(names: Sequence[str], fields: Sequence[str], place: str) -> None:
    """Raise `CorpusError` if two columns have the name of one of `fields`, or of any if empty."""
    for name in fields or filter(None, names):
        if names.count(name) > 1:
            msg = f"{place}: {names.count(name)} columns are called {name!r}; rename all but one"
            raise CorpusError(msg)


def saved_files(folder: Path) -> list[Path] | None:
    """Return the arrow files of a folder that `Dataset.save_to_disk` wrote, `None` for others.

    Raises `CorpusError` for a `DatasetDict`, which has a folder for each split.
    """
    state, splits = folder / "state.json", folder / DATASET_DICT
    try:
        if splits.is_file():
            names = json.loads(splits.read_text(encoding="utf-8"))["splits"]
            paths = " or ".join([str(folder / name) for name in names])
            msg = f"{folder}: a DatasetDict with {len(names)} splits; name one of them: {paths}"
            raise CorpusError(msg)
        if state.is_file() and (folder / "dataset_info.json").is_file():
            entries = json.loads(state.read_text(encoding="utf-8"))["_data_files"]
            files = [folder / str(entry["filename"]) for entry in entries]
            if not files:
                msg = f"{folder}: the saved data set has no records; name one with text"
                raise CorpusError(msg)
            return files
    except (ValueError, KeyError, TypeError, OSError) as error:
        msg = f"{folder}: a data set that cannot be read ({type(error).__name__}: {error}); "
        raise CorpusError(msg + "write it again with save_to_disk") from None
    return None
