"""Read the text of a web crawl: the conversion records of a WET file (WARC 1.0 and 1.1).

A small parser instead of a library: text needs only the header lines and the length of a record,
and lingraft's own decompression already joins the gzip members of which there is one per record.

A record that cannot be read does not stop the file, because nobody can correct a crawl: reading
continues at the next record, and the text of such a record is a `MalformedRecord`, which a corpus
drops, counts and names. A file that ends inside a record is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from lingraft.corpus.compression import open_compressed
from lingraft.corpus.remote_files import TextFile
from lingraft.corpus.text_files import MAX_DOCUMENT_BYTES
from lingraft.errors import CorpusError

_VERSION = b"WARC/"
_HEADER_BYTES = 2**16
"""A longer header, or line of one, is malformed."""
_CHUNK = 2**20
FIELDS = {
    "url": "warc-target-uri",
    "date": "warc-date",
    "languages": "warc-identified-content-language",
}
"""The fields of a record next to `text`, and the header lines that they come from."""


class MalformedRecord(str):
    """The empty text of a record that cannot be read; `problem` is its place and the reason."""

    __slots__ = ("problem",)

    problem: str

    @classmethod
    def at(cls, place: str, reason: str) -> MalformedRecord:
        """Return the text of the record at a place."""
        text = cls("")
        text.problem = f"{place}: {reason}"
        return text


class _Malformed(Exception):  # noqa: N818 - caught where the record is read
    """The reason why a record cannot be read."""


class _Truncated(Exception):  # noqa: N818 - caught where the file is read
    """The file ends inside a record."""


def read_warc(path: TextFile) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield a record with the fields text, url, date and languages for each conversion record.

    Raises `CorpusError` for a file that is not WARC, is truncated, or has no conversion records.
    """
    kinds: Counter[str] = Counter()
    with open_compressed(path) as stream:
        line = _skip_blank_lines(stream)
        if line and not line.startswith(_VERSION):
            msg = f"{path}: not a WARC file (it begins with {line[:20]!r}); correct its name"
            raise CorpusError(msg)
        while line:
            place = f"{path}:record {sum(kinds.values()) + 1}"
            try:
                header = _read_header(stream)
                kind = header.get("warc-type", "").lower()
                body = _read_body(stream, header, keep=kind == "conversion")
                line = _skip_blank_lines(stream, after_body=True)
                record: dict[str, Any] = {"text": _decode(body, place)}
                record.update({name: header.get(key) for name, key in FIELDS.items()})
            except _Malformed as problem:
                kind, text = "malformed", MalformedRecord.at(place, str(problem))
                record = dict.fromkeys(("text", *FIELDS), text)
                line = _next_record(stream)
            except _Truncated:
                msg = f"{place}: the file ends inside the record; download it again"
                raise CorpusError(msg) from None
            kinds[kind] += 1
            if kind in {"conversion", "malformed"}:
                yield record, place
    if kinds and not kinds["conversion"]:
        found = ", ".join(f"{count:,} {kind or 'without type'}" for kind, count in kinds.items())
        msg = (
            f"{path}: no record holds extracted text (type conversion), found {found}; give the "
            "crawl's WET file (.warc.wet.gz)"
        )
        raise CorpusError(msg)


def _skip_blank_lines(stream: IO[bytes], *, after_body: bool = False) -> bytes:
    """Return the first line of the next record, b"" at the end of the file.

    Raises `_Malformed` if something else follows a body: the length in its header is wrong.
    """
    while line := stream.readline(_HEADER_BYTES):
        if line.strip():
            if after_body and not line.startswith(_VERSION):
                msg = "its length is not what its header says"
                raise _Malformed(msg)
            return line
    return b""


def _next_record(stream: IO[bytes]) -> bytes:
    """Return the next line that begins a record, b"" at the end of the file."""
    while line := stream.readline(_HEADER_BYTES):
        if line.startswith(_VERSION):
            return line
    return b""


def _read_header(stream: IO[bytes]) -> dict[str, str]:
    """Return the lines of a header by their lower-case names."""
    header: dict[str, str] = {}
    size = 0
    while True:
        line = stream.readline(_HEADER_BYTES)
        size += len(line)
        if not line:
            raise _Truncated
        if not line.strip():
            return header
        name, colon, value = line.decode("utf-8", errors="replace").partition(":")
        if size > _HEADER_BYTES or not colon:
            msg = f"{line[:40]!r} is not a header line"
            raise _Malformed(msg)
        header[name.strip().lower()] = value.strip()


def _read_body(stream: IO[bytes], header: dict[str, str], *, keep: bool) -> bytes:
    """Return the body of a record, b"" if it is not to be kept."""
    length = header.get("content-length", "")
    if not (length.isascii() and length.isdigit()) or len(length) > 15:
        msg = f"its Content-Length is {length!r}" if length else "it has no Content-Length"
        raise _Malformed(msg)
    left = int(length)
    if keep and left > MAX_DOCUMENT_BYTES:
        msg = f"it is longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB"
        raise _Malformed(msg)
    parts = []
    while left:
        part = stream.read(min(left, _CHUNK))
        if not part:
            raise _Truncated
        left -= len(part)
        if keep:
            parts.append(part)
    return b"".join(parts)


def _decode(body: bytes, place: str) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        reason = f"byte 0x{body[error.start]:02x} at offset {error.start} is not UTF-8"
        return MalformedRecord.at(place, reason)
