"""Find local files, decompress them and decode their lines, in bounded memory.

Offsets in errors count decompressed bytes, so that `zcat FILE | tail -c +OFFSET` shows the place.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lingraft.errors import CorpusError
from lingraft.store import is_folder, is_valid_path, path_exists

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from zstandard import ZstdDecompressionObj

ENDINGS = (".txt", ".jsonl", ".json", ".parquet", ".csv", ".tsv")
FOLDER_ENDINGS = (".txt", ".jsonl", ".json", ".parquet")
"""Endings that are read from a folder; .csv and .tsv files in a folder are mostly metadata."""
COMPRESSIONS = (".gz", ".zst")
WILDCARDS = "*?["
_HEAD_BYTES = 2**16
NUL_SHARE = 0.005
"""A file with a larger share of NUL bytes at its beginning is not UTF-8."""
MAX_DOCUMENT_BYTES = 64 * 2**20
"""A longer document, usually a file without line ends, is an error, to bound the memory."""


def ending_of(path: Path) -> str:
    """Return the ending that decides how a file is read; raises `CorpusError` for an unknown one.

    >>> ending_of(Path("hi.train.jsonl.gz"))
    '.jsonl'
    """
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    for ending in ENDINGS:
        if name.endswith(ending):
            return ending
    known, packed = ", ".join(ENDINGS), " or ".join(COMPRESSIONS)
    msg = f"{path}: unknown file type; expected {known}, each also with {packed}"
    raise CorpusError(msg)


def find_files(pattern: str) -> list[Path]:
    """Return the files of a path, a folder or a glob, sorted by name.

    A folder does not include its .csv and .tsv files; a pattern such as `folder/*.csv` does. Raises
    `CorpusError` if there are none, with the most similar name that exists.
    """
    path = Path(pattern).expanduser() if path_exists(pattern) else Path(pattern)
    if is_folder(path):
        files = _folder_files(path)
        if not files:
            endings = ", ".join(FOLDER_ENDINGS)
            msg = (
                f"{pattern}: the folder contains no {endings} file; use a pattern for .csv files "
                f"({pattern}/*.csv)"
            )
            raise CorpusError(msg)
        return files
    if path_exists(path) and path.is_file():
        return [path]
    matches = sorted(_matches(path))
    if matches:
        return matches
    if has_wildcards(pattern):
        msg = f"{pattern}: no file matches; the pattern is relative to {Path.cwd()}"
        raise CorpusError(msg)
    if not is_valid_path(path):
        msg = f"{pattern[:40]!r}...: not a valid file name ({len(pattern)} characters)"
        raise CorpusError(msg)
    if path.is_symlink():
        msg = f"{pattern}: a symbolic link that cannot be resolved; correct the link"
        raise CorpusError(msg)
    msg = f"{pattern}: no such file; {_nearest_sibling(path)}"
    raise CorpusError(msg)


def has_wildcards(text: str) -> bool:
    """Return whether a path or a part of it is a glob pattern."""
    return any(character in text for character in WILDCARDS)


def _folder_files(folder: Path) -> list[Path]:
    """Return the files with text in a folder and its subfolders, sorted by name."""
    suffixes = []
    for ending, compression in itertools.product(FOLDER_ENDINGS, ("", *COMPRESSIONS)):
        suffixes.append(ending + compression)
    files = []
    for path in folder.rglob("*"):
        has_text = path.name.lower().endswith(tuple(suffixes))
        if has_text and path.is_file():
            files.append(path)
    return sorted(files)


def is_matched(pattern: str) -> bool:
    """Return whether a pattern matches any file."""
    return next(_matches(Path(pattern)), None) is not None


def _matches(pattern: Path) -> Iterator[Path]:
    """Yield the matches of a pattern; `**` skips linked folders, wildcards skip hidden names."""
    literal = list(itertools.takewhile(lambda part: not has_wildcards(part), pattern.parts))
    rest = pattern.parts[len(literal) :]
    if not rest or not is_valid_path(pattern):
        return
    # pathlib's `**` at the end matches folders only.
    wildcard = Path(*rest, "*") if rest[-1] == "**" else Path(*rest)
    allows_hidden = _has_hidden(rest)
    for path in Path(*literal).glob(str(wildcard)):
        is_hidden = _has_hidden(path.parts[len(literal) :])
        if path.is_file() and (allows_hidden or not is_hidden):
            yield path


def _has_hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def _nearest_sibling(path: Path) -> str:
    """Suggest the entry whose name is most similar to the first missing part of a path."""
    while not path.parent.is_dir():
        path = path.parent
    names = [entry.name for entry in path.parent.iterdir()]
    similar = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    if similar:
        return f"did you mean {path.parent / similar[0]}?"
    return f"{path.parent} contains no name similar to {path.name}"


class _DamagedError(Exception):
    """Compressed data that cannot be decompressed."""


class _ZstandardStream(io.RawIOBase):
    """Decompressed bytes of a .zst file of one or more frames; a truncated one raises `EOFError`.

    The stream reader of zstandard does not report a truncated file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # Imported here: an image for training may lack zstandard, and most text is not .zst.
        from zstandard import ZstdDecompressor, ZstdError

        self._error = ZstdError
        self._decompressor = ZstdDecompressor(max_window_size=2**31)  # what `zstd --long=31` writes
        self._frame: ZstdDecompressionObj | None = None
        self._pending = memoryview(b"")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._pending and self._next_block():
            pass
        view = memoryview(buffer)
        size = min(len(view), len(self._pending))
        view[:size] = self._pending[:size]  # memoryview slices do not copy
        self._pending = self._pending[size:]
        return size

    def _next_block(self) -> bool:
        """Decompress the next block; return whether there was one."""
        # 1,024 compressed bytes give a few kB of text, and at most 32 MiB.
        compressed = self._rest or self._file.read(1024)
        if not compressed:
            if self._frame is not None:
                raise EOFError
            return False
        self._rest = b""
        self._frame = self._frame or self._decompressor.decompressobj()
        try:
            self._pending = memoryview(self._frame.decompress(compressed))
        except self._error as error:
            raise _DamagedError(str(error)) from error
        if self._frame.eof:
            self._rest, self._frame = self._frame.unused_data, None
        return True


@contextmanager
def open_compressed(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for its decompressed bytes.

    Raises `CorpusError` if the file cannot be read or is truncated.
    """
    name = path.name.lower()
    try:
        with path.open("rb") as file:
            if name.endswith(".gz"):
                with gzip.GzipFile(fileobj=file) as stream:
                    yield stream  # type: ignore[misc]  # a GzipFile reads as any binary file does
            elif name.endswith(".zst"):
                yield io.BufferedReader(_ZstandardStream(file), 2**17)
            else:
                yield file
    except EOFError:
        msg = f"{path}: the compressed data is truncated; download or write the file again"
        raise CorpusError(msg) from None
    except (gzip.BadGzipFile, zlib.error, _DamagedError) as error:
        msg = (
            f"{path}: not valid {path.suffix} data ({error}); download it again, or rename it if "
            "it is not compressed"
        )
        raise CorpusError(msg) from None
    except PermissionError:
        msg = f"{path}: permission denied; make the file readable"
        raise CorpusError(msg) from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and its text without the line end.

    Raises `CorpusError` like `read_raw_lines`.
    """
    for number, text in read_raw_lines(path):
        yield number, text.rstrip("\r\n")


def read_raw_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and its text with the line end.

    Only a line feed (or carriage return and line feed) ends a line. Raises `CorpusError` with line
    and byte if the bytes are not UTF-8, and if a line is longer than the longest document.
    """
    offset = 0
    _check_not_wide(path)
    with open_compressed(path) as file:
        # The bound of `readline` keeps a file without line ends out of memory.
        raw_lines = iter(lambda: file.readline(MAX_DOCUMENT_BYTES + 1), b"")
        for number, raw in enumerate(raw_lines, start=1):
            if len(raw) > MAX_DOCUMENT_BYTES:
                msg = (
                    f"{path}:{number}: the line is longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB, "
                    "and a document must fit into memory; split it into lines"
                )
                raise CorpusError(msg)
            start = len(codecs.BOM_UTF8) if number == 1 and raw.startswith(codecs.BOM_UTF8) else 0
            try:
                yield number, raw[start:].decode()
            except UnicodeDecodeError as error:
                position = start + error.start
                raise CorpusError(_not_utf8(path, number, raw, position, offset)) from None
            offset += len(raw)


def _check_not_wide(path: Path) -> None:
    """Raise `CorpusError` for a file in UTF-16 or UTF-32 without a byte order mark.

    Its bytes may be valid UTF-8: in Latin, Greek or Cyrillic text every second byte is below 0x20.
    """
    with open_compressed(path) as file:
        head = file.read(_HEAD_BYTES)
    nul = head.count(0)
    if nul < NUL_SHARE * len(head) or not nul:
        return
    even = head[::2].count(0)
    order = "BE" if even > nul - even else "LE"
    wide = f"UTF-32{order}" if nul > len(head) / 2 else f"UTF-16{order}"
    msg = (
        f"{path}: {nul:,} of the first {len(head):,} bytes are NUL, as in {wide}; expected UTF-8; "
        f"convert it: iconv -f {wide} -t UTF-8"
    )
    raise CorpusError(msg)


def _not_utf8(path: Path, number: int, raw: bytes, position: int, offset: int) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and number == 1:
        return f"{path}: the file is UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"
    return (
        f"{path}:{number}: byte 0x{raw[position]:02x} at offset {offset + position} is not UTF-8; "
        f"convert the file (iconv -t UTF-8) or remove the line"
    )
