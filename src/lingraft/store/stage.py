"""A stage, what its key consists of, and the draft of its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.progress import warn
from lingraft.store.digests import digest

WARNINGS = "warnings"
"""The note that holds the warnings of a stage."""

KEY_DIGITS = 20
"""Hexadecimal digits of a key: with 80 bits, any two of 1e9 outputs share a key with p = 4e-7."""


@dataclass(frozen=True)
class Stage:
    """A step of a run, with everything that determines its output.

    `version` is that of the code which builds the output. `settings` and `inputs` (name -> key of
    the input) are plain JSON.
    """

    name: str
    version: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the output (`stage_key`)."""
        return stage_key(self.name, self.version, self.settings, self.inputs)


def stage_key(
    name: str, version: int, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """Return the key of a stage output: the hash of all that the output depends on.

    That is the name of the stage, the version of the code that builds it, its settings, and the
    keys of its inputs. Execution details (device, workers, paths) never enter a key.

    >>> stage_key("corpus", 2, {"language": "hi"}, {})
    '2c3b3e78fcc41b006750'
    """
    content = {"name": name, "version": version, "settings": settings, "inputs": inputs}
    return digest(content)[:KEY_DIGITS]


class Draft:
    """A stage output that is being built: a folder to write into, and notes for the manifest.

    Stages report problems with `warn` only. A warning is printed to standard error at once (by one
    process only, see `is_first`), kept in the manifest under the note `warnings`, and printed again
    by a later run that takes this output from the store. The run lists it above the final table, in
    run.json, in the report and in the model card. A function that has no draft returns its warnings
    in its notes, as a list under `warnings`; the stage passes them to `note`.

    A warning is one line, `WHERE: what is wrong; what to do`, without a full stop at its end:

    >>> draft = Draft(Path("vocabulary"))
    >>> draft.warn("vocabulary: 4,860 of 50,000 tokens were added; give more text")
    >>> draft.notes
    {'warnings': ['vocabulary: 4,860 of 50,000 tokens were added; give more text']}
    """

    def __init__(self, folder: Path, *, is_first: bool = True) -> None:
        self.folder = folder
        self.notes: dict[str, Any] = {}
        self.is_first = is_first

    def warn(self, warning: str) -> None:
        """Print a warning and keep it; a repeated warning is ignored."""
        kept: list[str] = self.notes.setdefault(WARNINGS, [])
        if warning not in kept:
            kept.append(warning)
            if self.is_first:
                warn(warning)

    def note(self, notes: Mapping[str, Any]) -> None:
        """Add notes; those under `warnings`, a list, are passed to `warn`."""
        for warning in notes.get(WARNINGS, ()):
            self.warn(warning)
        self.notes |= {name: value for name, value in notes.items() if name != WARNINGS}

    def path(self, name: str) -> Path:
        """Return the path of a file of the output; its parent folder is created."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
