"""Open files for their decompressed bytes, in bounded memory.

A file that is truncated or is not what its name says is an error, never a shorter text.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from lingraft.corpus.remote_files import TextFile
from lingraft.errors import CorpusError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


BLOCK = 1024
"""Compressed bytes that are read at once: a few kB of text."""
MAX_BLOCK = 2**23
"""Decompressed bytes at once, of data that becomes a million times as large."""


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

    @property
    def needs_input(self) -> bool:
        """Whether all that was given is decompressed."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return the next decompressed bytes, at most `max_length` of them if it can stop there."""


class _Frame:
    """A frame of zstandard, which decompresses all that it is given: at most 32 MiB of a block."""

    needs_input = True

    def __init__(self, new: Callable[[], Any]) -> None:
        self._decompressor = new()

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._decompressor.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:  # noqa: ARG002
        return bytes(self._decompressor.decompress(data))


class _Streams(io.RawIOBase):
    """Decompressed bytes of a .zst, .xz or .bz2 file, which holds one or more streams.

    A truncated or empty file raises `EOFError`, and data that begins no stream `_DamagedError`. The
    stream reader of zstandard does not report the first. Those of lzma and bz2 do not report the
    second after a whole stream, and leave out the rest of the file: of one that pbzip2 wrote, or
    of several files put end to end, most of the text.
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
        if self._stream is not None and not self._stream.needs_input:
            self._decompress(self._stream, b"")
            return True
        compressed = self._rest or self._file.read(BLOCK)
        if not compressed:
            if self._stream is not None or self._is_first:
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
            self._pending = memoryview(stream.decompress(compressed, MAX_BLOCK))
        except self._damaged as error:
            raise _DamagedError(str(error)) from error
        if stream.eof:
            self._rest, self._stream = stream.unused_data, None


def _open_stream(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the decompressed bytes of an open file, by the ending of its name."""
    if name.endswith(".gz"):
        # GzipFile takes a file without a byte for one without text; a broken download leaves such.
        if not file.read(1):
            raise EOFError
        file.seek(0)
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    # Imported here: an image for training may lack zstandard, a Python may be built without the
    # other two libraries, and most text needs none of them.
    streams: _Streams
    if name.endswith(".zst"):
        from zstandard import ZstdDecompressor, ZstdError

        # The maximum is what `zstd --long=31` writes.
        decompressor = ZstdDecompressor(max_window_size=2**31)
        new_frame = partial(_Frame, decompressor.decompressobj)
        streams = _Streams(file, new_frame, ZstdError)
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
