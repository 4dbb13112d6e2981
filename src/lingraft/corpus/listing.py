"""The local files of a corpus, in the state that they had when they were listed.

The key of a corpus is made of the hashes of its files, and its text is read later. A file that was
changed, replaced or removed in between would put other text under that key. So the text is read
from the listed files only, and each of them must be in its listed state before and after it is
read. Files that were added since are not read. `remote_files` does the same for objects of stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from lingraft.corpus.remote_files import RemoteFile, TextFile
from lingraft.corpus.source import Source
from lingraft.corpus.text_files import find_files
from lingraft.errors import CorpusError


class FileState(NamedTuple):
    """What shows that a file changed without reading it.

    `changed` is the time that the operating system keeps: programs can set back `modified`.
    """

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file; raises `OSError`."""
        state = path.stat()
        return cls(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@dataclass(frozen=True)
class Listing:
    """The files of sources by the path of the source, and the state of the local ones."""

    files: Mapping[str, Sequence[TextFile]]
    states: Mapping[Path, FileState]

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Self:
        """List the files of sources now; raises `CorpusError` if a source has none."""
        files: dict[str, Sequence[TextFile]] = {}
        states: dict[Path, FileState] = {}
        for source in sources:
            if source.path is None or source.path in files:
                continue
            files[source.path] = find_files(source.path)
            for file in files[source.path]:
                if not isinstance(file, RemoteFile):
                    states[file] = FileState.of(file)
        return cls(files, states)

    def check(self, file: TextFile) -> None:
        """Raise `CorpusError` if a local file is no longer in its listed state."""
        if isinstance(file, RemoteFile):
            return  # a remote file checks itself when it is read
        try:
            state = FileState.of(file)
        except FileNotFoundError:
            msg = f"{file}: the file was removed while the run used it; restore it, or run again"
            raise CorpusError(msg) from None
        if state != self.states[file]:
            msg = f"{file}: the file was changed while the run used it; run again"
            raise CorpusError(msg)
