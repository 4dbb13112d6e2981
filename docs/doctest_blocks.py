"""Show the examples of docstrings as code: Markdown would read `>>>` as quotations.

An extension of griffe, with which mkdocstrings reads the source.
"""

from __future__ import annotations

from typing import Any

import griffe


class DoctestBlocks(griffe.Extension):
    """Put every example of a docstring into a fenced block."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object after it was read."""
        if obj.docstring is not None:
            obj.docstring.value = fence_examples(obj.docstring.value)


def fence_examples(text: str) -> str:
    """Return a docstring with fences around its examples; an example ends at a blank line."""
    lines: list[str] = []
    indentation: str | None = None
    for line in [*text.split("\n"), ""]:
        if indentation is None and line.lstrip().startswith(">>>"):
            indentation = line[: len(line) - len(line.lstrip())]
            lines.append(f"{indentation}```pycon")
        if indentation is not None and not line.strip():
            lines.append(f"{indentation}```")
            indentation = None
        lines.append(line)
    return "\n".join(lines[:-1])
