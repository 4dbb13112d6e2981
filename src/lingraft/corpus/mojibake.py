"""Text that was decoded with the wrong encoding, such as UTF-8 read as Latin-1 or Windows-1251.

ftfy decides what is such text and repairs it. It is slow, so that only text with at least one
UTF-8 character that was read as another encoding is given to it: `PREFILTER` finds these.
"""

from __future__ import annotations

import re


def _read_as(encoding: str, values: range) -> str:
    """Return what bytes are read as in an encoding, in Latin-1 where it has no character."""
    characters = {chr(value) for value in values}
    characters.update(bytes(values).decode(encoding, errors="ignore"))
    return "".join(sorted(characters))


_LATER = range(0x80, 0xC0)
_LATIN, _CYRILLIC = _read_as("cp1252", _LATER), _read_as("cp1251", _LATER)
LATER_BYTES = "".join(sorted({*_LATIN, *_CYRILLIC}))
"""What the bytes after the first one of a UTF-8 character are read as."""
FIRST_BYTES = "".join(map(chr, range(0xC2, 0xF5))) + "РС"
"""What the first byte is read as: in Windows-1251, only Cyrillic is looked for."""
PREFILTER = re.compile(
    # Two-byte characters, then three- and four-byte ones, in Windows-1252 and Latin-1.
    rf"[\xc2-\xdf][{re.escape(_LATIN)}]|[\xe0-\xef][{re.escape(_LATIN)}]{{2}}|"
    rf"[\xf0-\xf4][{re.escape(_LATIN)}]{{3}}|(?:[РС][{re.escape(_CYRILLIC)}]){{2}}"
)


def first_mojibake(text: str) -> tuple[int, int] | None:
    r"""Return where text decoded with the wrong encoding begins and ends, `None` without any.

    >>> first_mojibake("clichÃ© d'été"), first_mojibake("voilà\u00a0» été")
    ((5, 7), None)
    """
    match = PREFILTER.search(text)
    if match is None:
        return None
    from ftfy.badness import is_bad

    return match.span() if is_bad(text) else None


def repair_mojibake(text: str) -> str:
    """Return a text decoded again, as ftfy finds it; other text is returned as it is.

    >>> repair_mojibake("clichÃ© d'été")
    "cliché d'été"
    """
    if PREFILTER.search(text) is None:
        return text
    import ftfy

    return str(ftfy.fix_encoding(text))
