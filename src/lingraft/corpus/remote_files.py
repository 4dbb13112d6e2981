"""Text in object stores and on web servers, read as streams through fsspec.

A URL names an object, a folder or a pattern. Listing it gives a `RemoteFile` for each object, with
the size and the version that the store states: a checksum, an ETag or a time. Readers use it like
a `Path`. All bytes that are read come from the listed version, and there are as many as its size:
a changed object is an error, and a broken connection is never taken for the end of a file.

Credentials and endpoints are those of fsspec and of the store's own tools. They never enter a
recipe or a key.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from lingraft.corpus.remote_errors import may_pass, protocol_of, reason_of, remote_errors
from lingraft.errors import CorpusError, LingraftError
from lingraft.file_kinds import FOLDER_ENDINGS, without_compression
from lingraft.progress import say

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEB = ("http", "https")
_CHECKSUMS = ("blob_id", "xet_hash", "md5Hash", "sha", "ETag", "etag", "Content-MD5", "Digest")
"""Names under which file systems state a checksum, the more exact ones first."""
_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modificationTime")
# The first block is small, because a look at a file needs only its beginning.
FIRST_BLOCK, LARGEST_BLOCK = 2**17, 2**22
"""Bytes of one request; reading on doubles them."""
WAITS = (1, 2, 4, 8)
"""Seconds before each attempt to continue after a broken connection."""
_DATASET_FILES = ("state.json", "dataset_dict.json")


def is_url(text: str) -> bool:
    """Return whether a path is a URL.

    >>> is_url("s3://bucket/hi.jsonl"), is_url("hf:owner/name"), is_url("C:/hi.txt")
    (True, False, False)
    """
    return _URL.match(text) is not None


@dataclass(frozen=True, order=True)
class RemoteFile:
    """An object of a store, in the version that it had when it was listed."""

    url: str
    size: int
    version: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL, without the query of a web address."""
        path = urlsplit(self.url).path if protocol_of(self.url) in _WEB else self.url
        return PurePosixPath(path).name

    @property
    def suffix(self) -> str:
        """The last ending of the name."""
        return PurePosixPath(self.name).suffix

    def open(self, _mode: str = "rb") -> io.BufferedReader:
        """Open the object for reading; errors of the store are a `CorpusError`."""
        return io.BufferedReader(_RemoteStream(self), FIRST_BLOCK)


TextFile: TypeAlias = Path | RemoteFile
"""A local or remote file of text."""


def size_of(file: TextFile) -> int:
    """Return the bytes of a file, as it is stored."""
    return file.size if isinstance(file, RemoteFile) else file.stat().st_size


_LISTINGS: dict[str, tuple[RemoteFile, ...]] = {}


def list_remote(url: str) -> Sequence[RemoteFile]:
    """Return the objects of a URL, a folder or a pattern, sorted by URL.

    The listing is kept until `forget_listing`, so that a key and the text that is read for it are
    of the same versions. Raises `CorpusError` if there are none, and `MissingExtraError`.
    """
    if url not in _LISTINGS:
        _LISTINGS[url] = _list(url)
    return _LISTINGS[url]


def forget_listing(url: str) -> None:
    """Let the next `list_remote` ask the store again."""
    _LISTINGS.pop(url, None)


def _list(url: str) -> tuple[RemoteFile, ...]:
    if urlsplit(url).password is not None:
        msg = (
            f"{protocol_of(url)}://: the URL contains a password, which a run would write into its "
            "files; configure it for fsspec, in ~/.config/fsspec"
        )
        raise CorpusError(msg)
    with remote_errors(url):
        system, path = _file_system(url)
        system.invalidate_cache()
        if _has_wildcards(url):
            found = {
                name: info
                for name, info in system.glob(path, detail=True).items()
                if info["type"] == "file" and not _is_hidden(name, path)
            }
            missing = "no object matches; check the pattern"
        else:
            info = system.info(path)
            if info["type"] == "file":
                return (_remote_file(system, url, path, info),)
            found = _folder_files(url, path, system.find(path, detail=True))
            missing = f"the folder contains no {' '.join(FOLDER_ENDINGS)} object; name another"
        files = []
        for name, info in found.items():
            files.append(_remote_file(system, system.unstrip_protocol(name), name, info))
    if not files:
        msg = f"{url}: {missing}"
        raise CorpusError(msg)
    return tuple(sorted(files))


def _folder_files(url: str, path: str, found: dict[str, Any]) -> dict[str, Any]:
    if any(name.endswith(tuple(f"/{file}" for file in _DATASET_FILES)) for name in found):
        msg = (
            f"{url}: a data set that `datasets` saved, with files that are not its text; name the "
            f"files of a split: {url.rstrip('/')}/data-*.arrow"
        )
        raise CorpusError(msg)
    files = {}
    for name, info in found.items():
        is_text = without_compression(name.lower()).endswith(FOLDER_ENDINGS)
        if is_text and not _is_hidden(name, f"{path.rstrip('/')}/*"):
            files[name] = info
    return files


def _has_wildcards(url: str) -> bool:
    # In a web address, `?` begins the query.
    return any(character in url for character in ("*[" if protocol_of(url) in _WEB else "*?["))


def _is_hidden(name: str, pattern: str) -> bool:
    """Return whether a wildcard matched a name that begins with a dot."""
    folder = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]
    return "/." in name.removeprefix(folder) and "/." not in pattern.removeprefix(folder)


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    options = {}
    if protocol_of(url) in _WEB:
        # Proxies and ~/.netrc apply, as for other programs.
        given = conf.get(protocol_of(url), {}).get("client_kwargs", {})
        options["client_kwargs"] = {"trust_env": True, **given}
    system, path = url_to_fs(url, **options)
    return system, path


def _remote_file(system: Any, url: str, path: str, info: dict[str, Any]) -> RemoteFile:
    """Return the object with its size and version; raises `CorpusError` if one is not stated."""
    version = _version(system, path, info)
    if info.get("size") is None or version is None:  # a listing may state less
        info = system.info(path)
        version = _version(system, path, info)
    if info.get("size") is None:
        msg = (
            f"{url}: the server does not state the size, so a broken download could not be noticed;"
            " download it, and name the local file"
        )
        raise CorpusError(msg)
    if version is None:
        msg = (
            f"{url}: the store states no checksum, ETag or time of change, so a changed text could "
            "not be noticed; download it, and name the local file"
        )
        raise CorpusError(msg)
    return RemoteFile(url, int(info["size"]), version)


def _version(system: Any, path: str, info: dict[str, Any]) -> str | None:
    for name in _CHECKSUMS:
        if info.get(name):
            return str(info[name]).strip('"')
    changed = next((info[name] for name in _TIMES if info.get(name)), None)
    if changed is None:
        try:
            changed = system.modified(path)
        except NotImplementedError:
            return None
    return f"{info.get('size')} bytes of {changed}"


class _RemoteStream(io.RawIOBase):
    """The bytes of an object, read in blocks that grow; a broken connection is continued."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._position = 0
        self._ahead = memoryview(b"")
        self._block = FIRST_BLOCK
        self._source: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}
        position = starts[whence] + offset
        if position != self._position:
            self._ahead, self._block = memoryview(b""), FIRST_BLOCK
            self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if not self._ahead:
            wanted = max(len(view), self._block)
            length = min(wanted, self._file.size - self._position)
            if length <= 0:
                return 0
            self._ahead = memoryview(self._fetch(length))
            self._block = min(2 * self._block, LARGEST_BLOCK)
        size = min(len(view), len(self._ahead))
        view[:size] = self._ahead[:size]
        self._ahead = self._ahead[size:]
        self._position += size
        return size

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _fetch(self, length: int) -> bytes:
        for wait in WAITS:
            try:
                return self._read(length)
            except LingraftError:
                raise
            except Exception as error:  # noqa: BLE001 - clients of stores share no base class
                self._disconnect()
                if not may_pass(error):
                    break
                say(f"{self._file}: {reason_of(error)}; trying again in {wait} s")
                time.sleep(wait)
        where = f"{self._file}: after {self._position:,} of {self._file.size:,} bytes"
        with remote_errors(where, url=self._file.url):
            return self._read(length)

    def _read(self, length: int) -> bytes:
        """Read from the current position; raises `EOFError` if the store sends less."""
        if self._source is None:
            self._source = self._connect()
        self._source.seek(self._position)
        parts: list[bytes] = []
        left = length
        while left:
            part = self._source.read(left)
            if not part:
                msg = f"the connection ended {left:,} bytes early"
                raise EOFError(msg)
            parts.append(part)
            left -= len(part)
        if self._position + length == self._file.size:
            self._check_version()
        return b"".join(parts)

    def _connect(self) -> IO[bytes]:
        self._check_version()
        system, path = _file_system(self._file.url)
        options: dict[str, Any] = {"block_size": LARGEST_BLOCK, "cache_type": "none"}
        if protocol_of(self._file.url) in _WEB:
            # A server that compresses a file on its way cannot send a part of it.
            options["headers"] = {"Accept-Encoding": "identity"}
        source: IO[bytes] = system.open(path, "rb", **options)
        return source

    def _check_version(self) -> None:
        """Raise `CorpusError` if the object is no longer the one that was listed."""
        system, path = _file_system(self._file.url)
        system.invalidate_cache(path)
        if _remote_file(system, self._file.url, path, system.info(path)) != self._file:
            _LISTINGS.clear()
            msg = f"{self._file}: the object was changed while the run used it; run again"
            raise CorpusError(msg)

    def _disconnect(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()
