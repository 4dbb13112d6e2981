"""Open files for their decompressed bytes, in bounded memory.

A file that is truncated or is not what its name says is an error, never a shorter text.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol, cast

from lingraft.corpus.remote_files import TextFile
from lingraft.errors import CorpusError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _DamagedError(Exception):
    """Compressed data that cannot be decompressed."""


class _Decompressor(Protocol):
    """What decompresses one stream of a file: of zstandard (a frame), lzma or bz2."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""

    @property
    def unused_data(self) -> bytes:
        """What was given after the end of the stream."""

    def decompress(self, data: bytes, /) -> bytes:
        """Return the next decompressed bytes."""


class _Streams(io.RawIOBase):
    """Decompressed bytes of a .zst, .xz or .bz2 file, which holds one or more streams.

    A truncated file raises `EOFError`, and data that begins no stream `_DamagedError`. The stream
    reader of zstandard does not report the first. Those of lzma and bz2 do not report the second
    after a whole stream, and leave out the rest of the file: of one that pbzip2 wrote, or of
    several files put end to end, most of the text.
    """

    def __init__(
        self,
        file: IO[bytes],
        new_stream: Callable[[], _Decompressor],
        damaged: type[Exception],
        padding: bytes = b"",
    ) -> None:
        self._file = file
        self._new_stream, self._damaged, self._padding = new_stream, damaged, padding
        self._stream: _Decompressor | None = None
        self._pending = memoryview(b"")
        self._rest = b""
        self._is_first = True

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
            if self._stream is not None:
                raise EOFError
            return False
        self._rest = b""
        if self._stream is None:
            if not self._is_first:
                compressed = compressed.lstrip(self._padding)
            if not compressed:
                return True
            self._stream, self._is_first = self._new_stream(), False
        self._decompress(self._stream, compressed)
        return True

    def _decompress(self, stream: _Decompressor, compressed: bytes) -> None:
        try:
            self._pending = memoryview(stream.decompress(compressed))
        except self._damaged as error:
            raise _DamagedError(str(error)) from error
        if stream.eof:
            self._rest, self._stream = stream.unused_data, None


def _open_stream(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the decompressed bytes of an open file, by the ending of its name."""
    if name.endswith(".gz"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    # Imported here: an image for training may lack zstandard, a Python may be built without the
    # other two libraries, and most text needs none of them.
    streams: _Streams
    if name.endswith(".zst"):
        from zstandard import ZstdDecompressor, ZstdError

        # The maximum is what `zstd --long=31` writes.
        decompressor = ZstdDecompressor(max_window_size=2**31)
        streams = _Streams(file, decompressor.decompressobj, ZstdError)
    elif name.endswith(".xz"):
        import lzma

        # By the format, NULs may fill up the space between streams.
        streams = _Streams(file, lzma.LZMADecompressor, lzma.LZMAError, padding=b"\0")
    elif name.endswith(".bz2"):
        import bz2

        streams = _Streams(file, bz2.BZ2Decompressor, OSError)
    else:
        return file
    return io.BufferedReader(streams, 2**17)


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
