"""Local files as streams of bytes and lines: found, decompressed, decoded, in bounded memory.

Offsets in errors count decompressed bytes, so that `zcat FILE | tail -c +OFFSET` shows the place.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lingraft.errors import CorpusError
from lingraft.store import is_folder, is_valid_path, path_exists

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from zstandard import ZstdDecompressionObj

ENDINGS = (".txt", ".jsonl", ".json", ".parquet", ".csv", ".tsv")
FOLDER_ENDINGS = ENDINGS[:4]
"""What is read of a folder: next to text, .csv and .tsv files are mostly metadata."""
COMPRESSIONS = (".gz", ".zst")
_HEAD = 2**16
NUL_SHARE = 0.005
"""A file with a larger share of NUL bytes at its beginning is not UTF-8."""
MAX_DOCUMENT_BYTES = 64 * 2**20
"""A longer document, mostly a file without line ends, is refused, not held in memory."""


def ending_of(path: Path) -> str:
    """Return the ending that says how a file is read; raises `CorpusError` where it is not known.

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
    msg = f"{path}: unknown kind of file; expected {known}, each also with {packed}"
    raise CorpusError(msg)


def find_files(pattern: str) -> list[Path]:
    """Return the files that a path, a folder or a glob means, in the order of their names.

    A folder gives no .csv and .tsv files; a pattern such as `folder/*.csv` does. Raises
    `CorpusError` where there are none, with the nearest name that is there.
    """
    path = Path(pattern).expanduser() if path_exists(pattern) else Path(pattern)
    if is_folder(path):
        known = tuple(
            ending + compression for ending in FOLDER_ENDINGS for compression in ("", *COMPRESSIONS)
        )
        found = sorted(
            file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(known)
        )
        if not found:
            read = ", ".join(FOLDER_ENDINGS)
            msg = (
                f"{pattern}: the folder holds no {read} file; name .csv files by a pattern "
                f"({pattern}/*.csv)"
            )
            raise CorpusError(msg)
        return found
    if path_exists(path) and path.is_file():
        return [path]
    found = sorted(_matches(path))
    if found:
        return found
    if any(sign in pattern for sign in "*?["):
        msg = f"{pattern}: no file matches; the pattern is relative to {Path.cwd()}"
        raise CorpusError(msg)
    if not is_valid_path(path):
        msg = f"{pattern[:40]!r}...: no file can have such a name ({len(pattern)} characters)"
        raise CorpusError(msg)
    where = (
        "a link that leads nowhere"
        if path.is_symlink()
        else f"no such file; {_nearest_sibling(path)}"
    )
    msg = f"{pattern}: {where}"
    raise CorpusError(msg)


def is_matched(pattern: str) -> bool:
    """Say whether a pattern matches any file."""
    return next(_matches(Path(pattern)), None) is not None


def _matches(pattern: Path) -> Iterator[Path]:
    """Yield the matches of a pattern; `**` skips linked folders, wildcards skip hidden names."""
    literal = list(
        itertools.takewhile(lambda part: not any(sign in part for sign in "*?["), pattern.parts)
    )
    rest = pattern.parts[len(literal) :]
    if not rest:
        return
    if not is_valid_path(pattern):
        return
    wild = Path(*rest, "*") if rest[-1] == "**" else Path(*rest)
    for path in Path(*literal).glob(str(wild)):
        hidden = any(part.startswith(".") for part in path.parts[len(literal) :])
        if path.is_file() and (not hidden or any(part.startswith(".") for part in rest)):
            yield path


def _nearest_sibling(path: Path) -> str:
    """Name the entry that is most like the first missing part of a path."""
    while not path.parent.is_dir():
        path = path.parent
    near = difflib.get_close_matches(
        path.name, [entry.name for entry in path.parent.iterdir()], n=1, cutoff=0.5
    )
    return (
        f"did you mean {path.parent / near[0]}?"
        if near
        else f"{path.parent} holds nothing named like {path.name}"
    )


class _DamagedError(Exception):
    """Compressed data that cannot be decompressed."""


class _ZstandardStream(io.RawIOBase):
    """Decompressed bytes of a .zst file of one or more frames; a cut frame raises `EOFError`.

    zstandard's own stream reader does not report a cut file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        from zstandard import ZstdDecompressor

        self._file = file
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
        view[:size] = self._pending[:size]  # a view: taking from its start copies nothing
        self._pending = self._pending[size:]
        return size

    def _next_block(self) -> bool:
        """Decompress one more block; say whether there was one."""
        from zstandard import ZstdError

        compressed = self._rest or self._file.read(
            1024
        )  # of which at most 32 MiB can come, and mostly a few kB do
        if not compressed:
            if self._frame is not None:
                raise EOFError
            return False
        self._rest = b""
        self._frame = self._frame or self._decompressor.decompressobj()
        try:
            self._pending = memoryview(self._frame.decompress(compressed))
        except ZstdError as error:
            raise _DamagedError(str(error)) from error
        if self._frame.eof:
            self._rest, self._frame = self._frame.unused_data, None
        return True


@contextmanager
def open_compressed(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for its decompressed bytes.

    Raises `CorpusError` where it cannot be read or is cut short.
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
        msg = f"{path}: ends in the middle of its compressed data; fetch or write the file again"
        raise CorpusError(msg) from None
    except (gzip.BadGzipFile, zlib.error, _DamagedError) as error:
        msg = (
            f"{path}: is not valid {path.suffix} data ({error}); fetch it again, or rename it if "
            f"it "
            "is not compressed"
        )
        raise CorpusError(msg) from None
    except PermissionError:
        msg = f"{path}: cannot be read (permission denied)"
        raise CorpusError(msg) from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and its text without the line end.

    Raises `CorpusError` as `whole_lines` does.
    """
    for number, text in whole_lines(path):
        yield number, text.rstrip("\r\n")


def whole_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and its text with the line end.

    Only a line feed (or carriage return and line feed) ends a line. Raises `CorpusError` with line
    and byte where the bytes are not UTF-8, and where a line is longer than a document may be.
    """
    offset = 0
    _refuse_wide(path)
    with open_compressed(path) as file:
        for number, raw in enumerate(
            iter(lambda: file.readline(MAX_DOCUMENT_BYTES + 1), b""), start=1
        ):
            if len(raw) > MAX_DOCUMENT_BYTES:
                msg = (
                    f"{path}:{number}: longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB; a document "
                    f"is held "
                    f"in memory whole, split it into lines"
                )
                raise CorpusError(msg)
            start = len(codecs.BOM_UTF8) if number == 1 and raw.startswith(codecs.BOM_UTF8) else 0
            try:
                yield number, raw[start:].decode()
            except UnicodeDecodeError as error:
                raise CorpusError(
                    _not_utf8(path, number, raw, start + error.start, offset)
                ) from None
            offset += len(raw)


def _refuse_wide(path: Path) -> None:
    """Raise `CorpusError` where a file is UTF-16 or UTF-32 without a byte order mark.

    Its bytes may be valid UTF-8: every second one of Cyrillic, Greek or Latin is below 0x20.
    """
    with open_compressed(path) as file:
        head = file.read(_HEAD)
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
        return f"{path}: is UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"
    return (
        f"{path}:{number}: byte 0x{raw[position]:02x} at offset {offset + position} is not UTF-8; "
        f"convert the file (iconv -t UTF-8) or remove the line"
    )
