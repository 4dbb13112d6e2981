"""Open text and look at its beginning, before anything that takes long: a download, or training.

A wrong path, a wrong field, an empty, binary or UTF-16 file, and a folder that mixes text for
training with held-out text or several languages are found here. `text_preview` reads more.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import cache

from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.file_mix import FileMix
from lingraft.corpus.file_patterns import has_wildcards
from lingraft.corpus.readers import read_file, read_source
from lingraft.corpus.remote_files import RemoteFile, TextFile, is_url, size_of
from lingraft.corpus.source import Source
from lingraft.corpus.text_files import ending_of, find_files
from lingraft.errors import CorpusError
from lingraft.store import is_folder

FileVersion = tuple[TextFile, int, int]
"""A file, its size and the time of its last change: the key of what was read from it."""
LOOKED_AT_FILES = 32
"""Files of one source that are opened; of more files, the first, the last, and some between."""
LOOKED_AT_DOCUMENTS = 20
_HEAD_CHARACTERS = 4000


def look_at(settings: CorpusSettings, language: str) -> list[str]:
    """Look at all files of a corpus; return a line about each folder or pattern that it names.

    Raises `CorpusError`.
    """
    sources = settings.all_sources
    looks = [_look_at_files(source, language) for source in sources if source.path is not None]
    return [line for line in looks if line]


def look_at_hub(settings: CorpusSettings, language: str) -> None:
    """Read the first document of each Hub data set; raises `HubError` or `CorpusError`."""
    for source in settings.all_sources:
        if source.hub is not None:
            with closing(read_source(source, language)) as documents:
                next(documents, None)


def _look_at_files(source: Source, language: str) -> str | None:
    pattern = str(source.path)
    files = find_files(pattern)
    states = file_versions(files)
    # The limit and the weight do not change how a file is read.
    reader = source.model_copy(update={"limit": None, "weight": None})
    return _look(reader.model_dump_json(), tuple(states), language)


def file_versions(files: Sequence[TextFile]) -> list[FileVersion]:
    """Return files with what changes when their content does."""
    states = []
    for path in files:
        # A remote file is equal to another only in the same version.
        changed = 0 if isinstance(path, RemoteFile) else path.stat().st_mtime_ns
        states.append((path, size_of(path), changed))
    return states


@cache
def _look(source_json: str, states: tuple[FileVersion, ...], language: str) -> str | None:
    """Look at files in a state; the same files in the same state are looked at once."""
    source = Source.model_validate_json(source_json)
    files = [path for path, _, _ in states]
    if source.text_field != "text" and all(ending_of(path) == ".txt" for path in files):
        msg = f"{source.label}: .txt files have no fields; leave out text_field (--text-field)"
        raise CorpusError(msg)
    heads = {path: _head(path, source) for path in spread_files(files)}
    if not any(heads.values()):
        read = f"{len(files):,} files" if len(files) > 1 else f"{states[0][1]:,} bytes"
        msg = f"{source.label}: contains no document ({read}); name a source with text"
        raise CorpusError(msg)
    pattern = str(source.path)
    if not _names_several(pattern, files):
        return None
    mix = FileMix.of(pattern, {path: heads.get(path, "") for path in files})
    mix.check(language)
    return mix.describe()


def _names_several(pattern: str, files: Sequence[TextFile]) -> bool:
    """Return whether a source is a folder, or a pattern with several files."""
    if is_url(pattern):
        return [str(file) for file in files] != [pattern]
    is_pattern = has_wildcards(pattern) and len(files) > 1
    return is_pattern or is_folder(pattern)


def spread_files(files: Sequence[TextFile]) -> list[TextFile]:
    """Return the files to open: all, or some at equal distances with the first and the last."""
    count = min(len(files), LOOKED_AT_FILES)
    chosen = [files[round(index * (len(files) - 1) / max(count - 1, 1))] for index in range(count)]
    return list(dict.fromkeys(chosen))


def _head(path: TextFile, source: Source) -> str:
    """Return the first text of a file, "" if it has no document."""
    head = ""
    # Blank documents may come first: only a file that has no other is without text.
    # The condition is not applied: a file of which it drops the first documents is no empty file.
    for number, (text, _, _) in enumerate(read_file(path, source), start=1):
        head += text[:_HEAD_CHARACTERS] if text.strip() else ""
        if head and (number >= LOOKED_AT_DOCUMENTS or len(head) >= _HEAD_CHARACTERS):
            break
    return head
