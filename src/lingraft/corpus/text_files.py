"""Find files of text and decode their lines, in bounded memory.

Offsets in errors count decompressed bytes, so that `zcat FILE | tail -c +OFFSET` shows the place.
"""

from __future__ import annotations

import codecs
import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lingraft.corpus.columnar_files import DATASET_DICT, saved_files
from lingraft.corpus.compression import open_compressed
from lingraft.corpus.file_patterns import (
    has_wildcards,
    is_file_or_broken_link,
    matches_of,
    refuse_unreadable,
)
from lingraft.corpus.presets import presets
from lingraft.corpus.remote_files import TextFile, is_url, list_remote
from lingraft.errors import CorpusError
from lingraft.file_kinds import (
    COMPRESSIONS,
    ENDINGS,
    FOLDER_ENDINGS,
    TEXT_KINDS,
    without_compression,
)
from lingraft.store import expanded, is_folder, is_valid_path, path_exists

_HEAD_BYTES = 2**16
_MAC_LINE_BYTES = 4096
"""Carriage returns are line ends of the old Mac OS if there is one for so many bytes."""
NUL_SHARE = 0.005
"""A file with a larger share of NUL bytes at its beginning is not UTF-8."""
_SIGNATURES = {
    b"\x1f\x8b": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\xfd7zXZ\0": ".xz",
    b"BZh": ".bz2",
    b"PK\x03\x04": ".zip",
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
}
"""The first bytes of kinds of files; looked at only where a file is not text, as `BZh` may be."""
MAX_DOCUMENT_BYTES = 64 * 2**20
"""A longer document, usually a file without line ends, is an error, to bound the memory."""


def ending_of(path: TextFile) -> str:
    """Return the ending that decides how a file is read; raises `CorpusError` for an unknown one.

    >>> ending_of(Path("hi.train.jsonl.gz"))
    '.jsonl'
    """
    name = without_compression(path.name.lower())
    for ending in ENDINGS:
        if name.endswith(ending):
            return ending
    msg = f"{path}: unknown file type; expected {TEXT_KINDS}"
    raise CorpusError(msg)


def find_files(pattern: str) -> Sequence[TextFile]:
    """Return the files of a path, a folder, a glob or a URL, sorted by name.

    A folder does not include its .csv and .tsv files; a pattern such as `folder/*.csv` does. Hidden
    files are left out, unless they are named, and linked folders in a folder are not entered. Of a
    data set that `datasets` saved, the folder gives its arrow files. Raises `CorpusError` if there
    are none, with the most similar name that exists, and for a link to a file that is not there.
    """
    if not pattern.strip():
        msg = (
            "text: no file is named; give a file, a folder, a pattern or a preset such as fineweb-2"
        )
        raise CorpusError(msg)
    if is_url(pattern):
        return list_remote(pattern)
    path = expanded(pattern)
    if is_folder(path):
        files = _folder_files(path)
        if not files:
            msg = (
                f"{pattern}: the folder contains no {' '.join(FOLDER_ENDINGS)} file; use a pattern "
                f"for other files ({pattern}/*.csv)"
            )
            raise CorpusError(msg)
        return _check_links(files)
    if path_exists(path) and path.is_file():
        return [path]
    matches = sorted(matches_of(path))
    if matches:
        return _check_links(matches)
    if has_wildcards(pattern):
        advice = f"the pattern is relative to {Path.cwd()}"
        msg = f"{pattern}: no file matches; {'correct it' if path.is_absolute() else advice}"
        raise CorpusError(msg)
    if not is_valid_path(path):
        msg = f"{pattern[:40]!r}...: not a valid file name ({len(pattern)} characters)"
        raise CorpusError(msg)
    if path.is_symlink():
        msg = f"{pattern}: a symbolic link that cannot be resolved; correct the link"
        raise CorpusError(msg)
    if path_exists(path):
        msg = f"{pattern}: a device or a pipe, which cannot be read twice; write the text to a file"
        raise CorpusError(msg)
    similar = difflib.get_close_matches(pattern, presets(), n=1, cutoff=0.7)
    hint = f"did you mean the preset {similar[0]}?" if similar else _nearest_sibling(path)
    msg = f"{pattern}: no such file; {hint}"
    raise CorpusError(msg)


def _folder_files(folder: Path) -> list[Path]:
    """Return the files with text in a folder and its subfolders, sorted by name."""
    saved = saved_files(folder)
    if saved is not None:
        return saved
    saved_in: dict[Path, list[Path] | None] = {}
    files = []
    for path in sorted(_walk(folder)):
        parent, name = path.parent, path.name.lower()
        if not without_compression(name).endswith(FOLDER_ENDINGS) or name == DATASET_DICT:
            continue
        if parent not in saved_in:
            saved_in[parent] = saved_files(parent)
        # The other files in the folder of a saved data set are its description, and caches.
        listed = saved_in[parent]
        if is_file_or_broken_link(path) and (listed is None or path in listed):
            files.append(path)
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and its subfolders, but for hidden names and linked folders.

    Raises `CorpusError` for a folder that cannot be read: `Path.rglob` would leave its text out.
    """
    for parent, folders, files in os.walk(folder, onerror=refuse_unreadable):
        # Copies that other programs make: ._a.txt of macOS, .ipynb_checkpoints of Jupyter.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield Path(parent, name)


def _check_links(files: list[Path]) -> list[Path]:
    """Return files; raises `CorpusError` for a link to a file that is not there."""
    for path in files:
        if not path.is_file():
            msg = f"{path}: a symbolic link that cannot be resolved; correct or remove the link"
            raise CorpusError(msg)
    return files


def is_matched(pattern: str) -> bool:
    """Return whether a pattern matches any file."""
    return next(matches_of(expanded(pattern)), None) is not None


def _nearest_sibling(path: Path) -> str:
    """Suggest the entry whose name is most similar to the first missing part of a path."""
    while not path.parent.is_dir():
        path = path.parent
    names = [entry.name for entry in path.parent.iterdir()]
    similar = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    if similar:
        return f"did you mean {path.parent / similar[0]}?"
    return f"{path.parent} contains no name similar to {path.name}"


def read_lines(path: TextFile) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and its text without the line end.

    Raises `CorpusError` like `read_raw_lines`.
    """
    for number, text in read_raw_lines(path):
        yield number, text.rstrip("\r\n")


def read_raw_lines(path: TextFile) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and its text with the line end.

    Only a line feed (or carriage return and line feed) ends a line. Raises `CorpusError` with line
    and byte if the bytes are not UTF-8, and if a line is longer than the longest document, and for
    a file that only has carriage returns.
    """
    offset = 0
    _check_head(path)
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


def _check_head(path: TextFile) -> None:
    """Raise `CorpusError` for a file in a wide encoding, or with line ends of the old Mac OS."""
    with open_compressed(path) as file:
        head = file.read(_HEAD_BYTES)
    _check_not_wide(path, head)
    # A few in a long first line, or one in a short file, are no line ends.
    returns = head.count(b"\r")
    are_line_ends = returns > 1 and returns * _MAC_LINE_BYTES >= len(head)
    if b"\n" not in head and are_line_ends and not _binary_kind(head):
        msg = (
            f"{path}: carriage returns, but no line feed in the first {len(head):,} bytes; "
            "expected line feeds as line ends; convert it: tr '\\r' '\\n'"
        )
        raise CorpusError(msg)


def _check_not_wide(path: TextFile, head: bytes) -> None:
    """Raise `CorpusError` for a file in UTF-16 or UTF-32 without a byte order mark.

    Its bytes may be valid UTF-8: in Latin, Greek or Cyrillic text every second byte is below 0x20.
    """
    nul = head.count(0)
    if nul < NUL_SHARE * len(head) or not nul:
        return
    if kind := _binary_kind(head):
        raise CorpusError(_misnamed(path, kind))
    even = head[::2].count(0)
    order = "BE" if even > nul - even else "LE"
    wide = f"UTF-32{order}" if nul > len(head) / 2 else f"UTF-16{order}"
    msg = (
        f"{path}: {nul:,} of the first {len(head):,} bytes are NUL, as in {wide}; expected UTF-8; "
        f"convert it: iconv -f {wide} -t UTF-8"
    )
    raise CorpusError(msg)


def _binary_kind(head: bytes) -> str:
    """Return the ending of files that begin like this, "" if they may be text in any encoding."""
    return next((kind for start, kind in _SIGNATURES.items() if head.startswith(start)), "")


def _misnamed(path: TextFile, kind: str) -> str:
    known = (*ENDINGS, *COMPRESSIONS)
    advice = [f"rename the file so that its name ends in {kind}"] if kind in known else []
    advice += ["unpack it"] if kind in (*COMPRESSIONS, ".zip") else []
    return f"{path}: {kind} data, expected text in UTF-8; {', or '.join(advice)}"


def _not_utf8(path: TextFile, number: int, raw: bytes, position: int, offset: int) -> str:
    if number == 1 and (kind := _binary_kind(raw)):
        return _misnamed(path, kind)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and number == 1:
        return f"{path}: the file is UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8"
    return (
        f"{path}:{number}: byte 0x{raw[position]:02x} at offset {offset + position} is not UTF-8; "
        f"convert the file (iconv -t UTF-8) or remove the line"
    )
