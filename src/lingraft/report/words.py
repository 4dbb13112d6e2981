"""Numbers, names and foreign text as people read them.

`plain` is the one place where text that could steer the page is made harmless: everything that the page prints passes
through it, then through the escaping of HTML.
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import cache
from typing import Any

OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of what follows; joiners and direction marks, which scripts need, stay."""


@cache
def _registered() -> dict[str, str]:
    """Read the English names of the IANA registry that langcodes carries."""
    from langcodes.registry_parser import parse_registry

    entries = (entry for entry in parse_registry() if entry.get("Type") == "language" and "Deprecated" not in entry)
    return {entry["Subtag"]: re.sub(r"\s*\(.*\)", "", entry["Description"][0]) for entry in entries}


def language_name(tag: str) -> str:
    """Return what people call a language; a tag that is in no registry stands for itself.

    >>> language_name("hi"), language_name("pt-BR"), language_name("domain:law")
    ('Hindi', 'Portuguese (pt-BR)', 'domain:law')
    """
    primary = tag.partition("-")[0]
    name = _registered().get(primary)
    return tag if name is None else name if tag == primary else f"{name} ({tag})"


def language_tag(language: str) -> str:
    """Return what stands in a lang attribute: the tag, nothing for a domain of the user's own."""
    return "" if ":" in language else language


def direction(text: str) -> str:
    """Return the direction of a text, which its first letter of a direction decides.

    >>> direction("(مرحبا)"), direction("42 a")
    ('rtl', 'ltr')
    """
    kinds = (unicodedata.bidirectional(character) for character in text)
    return "rtl" if next((kind for kind in kinds if kind in {"L", "R", "AL"}), "L") in {"R", "AL"} else "ltr"


def plain(text: str) -> str:
    r"""Show control characters, direction overrides and lone surrogates by their code point.

    >>> plain("a\u202eb\x00 \u200d")
    'a[U+202E]b[U+0000] \u200d'
    """
    return "".join(f"[U+{ord(character):04X}]" if _steers(character) else character for character in text)


def _steers(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in OVERRIDES or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} \
        or ord(character) & 0xFFFE == 0xFFFE


def number(value: float | None) -> str:
    """Return a number with three digits that count.

    >>> number(13.4932), number(2.3), number(0.0123), number(12345.6), number(0), number(2.8e-5), number(math.nan)
    ('13.5', '2.30', '0.0123', '12,346', '0', '2.8e-05', 'not a number')
    """
    if value is None:
        return ""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#,.3g}".rstrip(".")


def percent(share: float) -> str:
    """Return a share as a percentage; whole only where it is whole.

    >>> percent(1), percent(0.9996), percent(0.0), percent(0.99999)
    ('100%', '99.96%', '0%', '99.99%')
    """
    if not math.isfinite(share):
        return number(share)
    if 0 < share < 1:  # neither all nor nothing
        share = min(max(share, 1e-4), 0.9999)
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def size(count: float) -> str:
    """Return bytes with their unit.

    >>> size(512), size(108481), size(13_159_689)
    ('512 bytes', '108 kB', '13.2 MB')
    """
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{number(count / limit)} {unit}"
    return f"{count:,.0f} bytes"


def duration(seconds: float) -> str:
    """Return a span of time.

    >>> duration(0.09), duration(82.8), duration(5000)
    ('0.1 s', '1 min 23 s', '1 h 23 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def joined(parts: list[str]) -> str:
    """Return words as a list in a sentence.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def flat(notes: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested notes as name and value, names joined by a dot.

    >>> flat({"a": {"b": 1234}, "c": [1, 2], "d": None})
    [('a.b', '1,234'), ('c', '1, 2')]
    """
    if isinstance(notes, dict):
        return [pair for key, value in notes.items() for pair in flat(value, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(notes, list) and any(isinstance(item, dict | list) for item in notes):
        return [pair for index, item in enumerate(notes) for pair in flat(item, f"{prefix}.{index}")]
    if notes is None or notes == []:
        return []
    return [(prefix, ", ".join(map(_word, notes)) if isinstance(notes, list) else _word(notes))]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)
