"""Examples from a text for messages: a few characters around what was found, escaped."""

from __future__ import annotations

import unicodedata

EXCERPT = 30
"""Characters of an example on each side of what was found."""


def excerpt(text: str, start: int, end: int) -> str:
    """Return what was found with its surroundings, escaped."""
    begin, stop = max(start - EXCERPT, 0), end + EXCERPT
    before, after = "…" if begin else "", "…" if stop < len(text) else ""
    return f"{before}{escaped(text[begin:stop])}{after}"


def escaped(text: str) -> str:
    r"""Replace characters that a reader cannot see, or that change the line, by their code point.

    >>> escaped("a\u00adb\u00a0c\nd \u200d")
    'a[U+00AD]b[U+00A0]c⏎d [U+200D]'
    """
    shown = []
    for character in text:
        category = unicodedata.category(character)
        if character == "\n":
            shown.append("⏎")
        elif category[0] == "C" or (category[0] == "Z" and character != " "):
            shown.append(f"[U+{ord(character):04X}]")
        else:
            shown.append(character)
    return "".join(shown)
