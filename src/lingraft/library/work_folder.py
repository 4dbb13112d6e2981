"""The temporary folder with the files behind an extension or an initialisation."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from lingraft.store import temporary_folder, write_files

RESULT = "result"
"""The folder, inside that of the inputs, that the vocabulary stage fills."""

SOURCE = "model"
"""The folder of the source tokenizer, inside that of the inputs."""


class WorkFolder:
    """A temporary folder that lives as long as the object.

    A copy of the object, also one that is pickled into another process, has a folder of its own,
    with the tokenizers and without the text.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="lingraft-", dir=temporary_folder()))
        self._removal = weakref.finalize(self, _remove, self.path, os.getpid())

    def __getstate__(self) -> dict[str, bytes]:
        """Return the files of the tokenizers by their relative paths."""
        files = {}
        for part in (RESULT, SOURCE):
            for file in filter(Path.is_file, (self.path / part).rglob("*")):
                files[file.relative_to(self.path).as_posix()] = file.read_bytes()
        return files

    def __setstate__(self, files: dict[str, bytes]) -> None:
        """Write the files into a new folder."""
        WorkFolder.__init__(self)
        write_files({self.path / name: content for name, content in files.items()})


def _remove(folder: Path, process: int) -> None:
    """Remove a folder, but not in a fork of the process that made it, which still needs it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
