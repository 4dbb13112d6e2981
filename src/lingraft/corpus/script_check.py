"""Check whether text is in the script that its language is usually written in.

Text of another language in the wrong place (Hindi given as Telugu) is adapted to without an error,
and the numbers look good. Most such mix-ups change the script. The usual script of a language is
that of the likely subtags of Unicode's CLDR, or the one in the tag: `sr-Latn` expects Latin.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from typing import Any

import langcodes
import regex

from lingraft.corpus.language import is_domain

MIN_SHARE = 0.5
"""Below this share of letters in the usual script, text is in the wrong script.

Instruction and story texts in Arabic, Hindi, Tamil, Thai and Turkish have 84% of their letters or
more in their scripts: the others are English names and code.
"""

SAMPLE_DOCUMENTS = 200
MIN_LETTERS = 100
"""With fewer letters than this in the sample, nothing is said."""

# Writing systems of several scripts, with the names of these scripts in Unicode.
_COMBINED = {
    "Jpan": ("Hira", "Kana", "Hani"),
    "Hrkt": ("Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Aran": ("Arab",),
}


@dataclass(frozen=True)
class WrongScript:
    """Text whose letters are mostly in another script than that of its language.

    `expected` and `found` are names of scripts, `share` is the share of letters in `found`, and
    `tag` is the tag of the language in that script.
    """

    language: str
    expected: str
    found: str
    share: float
    tag: str

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def find_wrong_script(language: str, texts: Iterable[str]) -> WrongScript | None:
    """Return the scripts if text is not in the usual script of its language, otherwise `None`.

    The first `SAMPLE_DOCUMENTS` texts are read. A domain and a language without a usual script are
    not checked.

    >>> find_wrong_script("te", ["नमस्ते दुनिया " * 20]).found
    'Devanagari'
    >>> find_wrong_script("hi", ["नमस्ते दुनिया " * 20])
    """
    code = None if is_domain(language) else langcodes.Language.get(language).maximize().script
    if code is None or code.startswith("Z"):  # Zyyy, Zzzz: no script in particular
        return None
    letters: Counter[str] = Counter()
    for text in islice(texts, SAMPLE_DOCUMENTS):
        letters.update(filter(str.isalpha, text))
    share = _share(letters, code)
    if letters.total() < MIN_LETTERS or share is None or share >= MIN_SHARE:
        return None
    shares = {script: _share(letters, script) or 0.0 for script in _script_names()}
    found = max(shares, key=shares.__getitem__)
    names, base = _script_names(), language.partition("-")[0]
    return WrongScript(language, names[code], names[found], shares[found], f"{base}-{found}")


def _share(letters: Counter[str], code: str) -> float | None:
    """Return the share of letters that are in a script, `None` for a script unknown to Unicode."""
    scripts = _COMBINED.get(code, (code,))
    try:
        matches = regex.compile("|".join(rf"\p{{Script={script}}}" for script in scripts)).match
    except regex.error:
        return None
    found = 0
    for letter, count in letters.items():
        if matches(letter):
            found += count
    return found / max(letters.total(), 1)


@cache
def _script_names() -> dict[str, str]:
    """Return the name of each script by its code, from the IANA registry."""
    from langcodes.registry_parser import parse_registry  # slow: read only to name a wrong script

    names = {}
    for entry in parse_registry():
        if entry.get("Type") == "script" and "Deprecated" not in entry:
            names[entry["Subtag"]] = re.sub(r"\s*\(.*\)", "", entry["Description"][0])
    return names
