"""Open files for their decompressed bytes, in bounded memory.

A file that is truncated or is not what its name says is an error, never a shorter text.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from lingraft.corpus.remote_files import TextFile
from lingraft.errors import CorpusError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from zstandard import ZstdDecompressionObj


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


class _PlainErrors(io.RawIOBase):
    """The bytes of an .xz or .bz2 stream; damaged data raises `_DamagedError`.

    bz2 reports damaged data as an `OSError` without a number, which an error of the disk has.
    """

    def __init__(self, stream: Any, damaged: type[Exception]) -> None:
        self._stream = stream
        self._damaged = damaged

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return int(self._stream.readinto(buffer))
        except self._damaged as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise _DamagedError(str(error)) from error


def _open_stream(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the decompressed bytes of an open file, by the ending of its name."""
    if name.endswith(".gz"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if name.endswith(".zst"):
        return io.BufferedReader(_ZstandardStream(file), 2**17)
    # Imported here: a Python that was built without these libraries can read everything else.
    if name.endswith(".xz"):
        import lzma

        return io.BufferedReader(_PlainErrors(lzma.LZMAFile(file), lzma.LZMAError), 2**17)
    if name.endswith(".bz2"):
        import bz2

        return io.BufferedReader(_PlainErrors(bz2.BZ2File(file), OSError), 2**17)
    return file


@contextmanager
def open_compressed(path: TextFile) -> Iterator[IO[bytes]]:
    """Open a file for its decompressed bytes.

    Raises `CorpusError` if the file cannot be read or is truncated.
    """
    try:
        with path.open("rb") as file:
            yield _open_stream(file, path.name.lower())
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
