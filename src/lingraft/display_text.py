"""Prepares names of languages, and text of any origin, for display.

Text on a page may come from a corpus, a model or the Hub. `plain` makes its control characters
visible: all text of a page passes through it, then through HTML escaping.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

UNKNOWN_LANGUAGE = "und"
"""The BCP-47 tag of text whose language is not stated."""

# Characters that change the direction of the text after them: they could hide or reorder what is
# next to them. Joiners and marks are kept, because scripts need them.
BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@cache
def registered_names(kind: str) -> dict[str, str]:
    """Return the English names of each "language" or "script" by tag, from the IANA registry."""
    from langcodes.registry_parser import parse_registry  # slow: parses the registry

    names = {}
    for entry in parse_registry():
        if entry.get("Type") == kind and "Deprecated" not in entry:
            # Without remarks in brackets, like the years of "Modern Greek (1453-)".
            names[entry["Subtag"]] = re.sub(r"\s*\(.*\)", "", entry["Description"][0])
    return names


def text_in(tag: str) -> str:
    """Return how messages name text in a language, which the library may not have been told.

    >>> text_in("hi"), text_in("und")
    ('text in hi', 'text')
    """
    return "text" if tag == UNKNOWN_LANGUAGE else f"text in {tag}"


def language_name(tag: str) -> str:
    """Return the English name of a language; a tag in no registry is returned as it is.

    >>> language_name("hi"), language_name("pt-BR"), language_name("domain:law")
    ('Hindi', 'Portuguese (pt-BR)', 'domain:law')
    """
    primary = tag.partition("-")[0]
    name = registered_names("language").get(primary)
    if name is None:
        return tag
    return name if tag == primary else f"{name} ({tag})"


def language_tag(language: str) -> str:
    """Return the value of an HTML lang attribute: the tag, or "" for a user's `domain:NAME`."""
    return "" if ":" in language else language


def invisible_as_escapes(pattern: str) -> str:
    r"""Return a regular expression with its invisible format characters as escapes.

    >>> print(invisible_as_escapes("[\u200c\u200d]a"))
    [\u200C\u200D]a
    """
    shown = []
    for character in pattern:
        is_invisible = unicodedata.category(character) == "Cf"
        shown.append(f"\\u{ord(character):04X}" if is_invisible else character)
    return "".join(shown)


def direction(text: str) -> str:
    """Return "ltr" or "rtl", from the first character of a text that has a direction.

    >>> direction("(مرحبا)"), direction("42 a")
    ('rtl', 'ltr')
    """
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in {"L", "R", "AL"}:
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def plain(text: str) -> str:
    r"""Replace control characters, direction overrides and lone surrogates by their code point.

    >>> plain("a\u202eb\x00 \u200d")
    'a[U+202E]b[U+0000] \u200d'
    """
    return "".join(
        f"[U+{ord(character):04X}]" if _is_control(character) else character for character in text
    )


def _is_control(character: str) -> bool:
    """Return whether a character is replaced; a line break and a tab are not."""
    if character in "\n\t":
        return False
    return (
        character in BIDI_OVERRIDES
        or ord(character) & 0xFFFE == 0xFFFE  # U+FFFE and U+FFFF of each plane are no characters
        or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
    )
