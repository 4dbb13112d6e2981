"""Check whether text is in the script that its language is usually written in.

Text of another language in the wrong place (Hindi given as Telugu) is adapted to without an error,
and the numbers look good. Most such mix-ups change the script. The usual script of a language is
that of the likely subtags of Unicode's CLDR, or the one in the tag: `sr-Latn` expects Latin. Text
that mixes scripts on purpose (code-switching) declares them: `declared` are the codes of ISO 15924.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from typing import Any

import langcodes
import regex

from lingraft.corpus.language import is_domain
from lingraft.display_text import language_name, registered_names
from lingraft.formatting import percent
from lingraft.text_units import UNSPACED_SCRIPTS

MIN_SHARE = 0.5
"""Below this share of letters in the usual script, text is in the wrong script.

Instruction and story texts in Arabic, Hindi, Tamil, Thai and Turkish have 84% of their letters or
more in their scripts: the others are English names and code.
"""

SAMPLE_DOCUMENTS = 200
MIN_LETTERS = 100
"""With fewer letters than this in the sample, nothing is said."""

ANOTHER_SCRIPT = "another script"
# Not common to several scripts, not inherited from the letter before, not unknown.
_IN_A_SCRIPT = regex.compile(r"[^\p{Script=Zyyy}\p{Script=Zinh}\p{Script=Zzzz}]")

# Writing systems of several scripts, with the names of these scripts in Unicode.
_COMBINED = {
    "Jpan": ("Hira", "Kana", "Hani"),
    "Hrkt": ("Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Aran": ("Arab",),
}
_IS_LETTER = regex.compile(r"[\p{L}\p{M}]")
_NO_LANGUAGE = frozenset({"", "und", "mul", "mis", "zxx"})
"""Tags of text whose language is not named or not known, of several, without a tag, and of none."""
_CJK = frozenset({*_COMBINED["Jpan"], *_COMBINED["Kore"]})


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

    def __str__(self) -> str:
        """Return the warning.

        >>> str(WrongScript("te", "Telugu", "Devanagari", 0.97, "te-Deva"))[:71]
        'text in te: 97% of the letters are Devanagari, not Telugu: the results '
        """
        return f"text in {self.language}: {percent(self.share)} of the letters are {self.remedy}"

    @property
    def remedy(self) -> str:
        """The scripts, what follows, and what to do, as the end of a sentence.

        >>> WrongScript("jv", "Latin", "Javanese", 0.97, "jv-Java").remedy[-56:]
        'or, for Javanese in the Javanese script, the tag jv-Java'
        """
        name = language_name(self.language)
        return (
            f"{self.found}, not {self.expected}: the results say nothing about {name}; give {name} "
            f"text in the {self.expected} script, or, for {name} in the {self.found} script, the "
            f"tag {self.tag}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def find_wrong_script(
    language: str, texts: Iterable[str], declared: Sequence[str] = ()
) -> WrongScript | None:
    """Return the scripts if text is not in the script of its language, otherwise `None`.

    The first `SAMPLE_DOCUMENTS` texts are read. A domain and a language without a usual script are
    not checked, unless scripts are declared.

    >>> find_wrong_script("te", ["नमस्ते दुनिया " * 20]).found
    'Devanagari'
    >>> find_wrong_script("hi", ["नमस्ते दुनिया " * 20])
    >>> find_wrong_script("hi", ["kal office में meeting है " * 20], ("Deva", "Latn"))
    """
    codes = declared or tuple(filter(None, [_usual_script(language)]))
    letters = _count_letters(texts)
    if not codes or letters.total() < MIN_LETTERS:
        return None
    shares, names = _shares(letters), _script_names()
    own = sum(shares.get(script, 0) for script in scripts_of(language, declared))
    if not scripts_of(language, declared) or own >= MIN_SHARE:  # Unicode does not know every script
        return None
    found = max(shares, key=shares.__getitem__)
    base = language.partition("-")[0]
    expected = " or ".join(names[code] for code in codes)
    return WrongScript(language, expected, names[found], shares[found], f"{base}-{found}")


def describe_scripts(texts: Iterable[str], declared: Sequence[str]) -> str:
    """Return the share of the letters in each of some scripts, in words.

    >>> describe_scripts(["kal office में meeting है " * 20], ("Deva", "Latn"))
    '23.8% Devanagari, 76.2% Latin'
    """
    letters: Counter[str] = Counter()
    for text in islice(texts, SAMPLE_DOCUMENTS):
        # With the marks: half of the characters of a Hindi word are vowel signs.
        letters.update(filter(_IS_LETTER.match, text))
    shares, names = _shares(letters), _script_names()
    return ", ".join(f"{percent(shares[code])} {names[code]}" for code in declared)


def check_scripts(codes: Sequence[str]) -> None:
    """Raise `ValueError` if a code is not that of a script of Unicode."""
    for code in codes:
        if code not in _shares(Counter()):
            msg = f"{code!r} is not the code of a script; give codes of ISO 15924, such as Deva"
            raise ValueError(msg)


def _count_letters(texts: Iterable[str]) -> Counter[str]:
    letters: Counter[str] = Counter()
    for text in islice(texts, SAMPLE_DOCUMENTS):
        letters.update(filter(str.isalpha, text))
    return letters


def scripts_of(language: str, declared: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the codes of the scripts that a language is written in, none if it is not known.

    >>> scripts_of("hi"), scripts_of("ja"), scripts_of("domain:law"), scripts_of("und")
    (('Deva',), ('Hira', 'Kana', 'Hani'), (), ())
    >>> scripts_of("hi", ("Deva", "Latn"))
    ('Deva', 'Latn')
    """
    scripts: list[str] = []
    for code in declared or (_usual_script(language) or "",):
        scripts += _COMBINED.get(code, (code,))
    return tuple(scripts) if _letter_scripts().groupindex.keys() >= set(scripts) else ()


def most_used_scripts(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the codes of the script of more than half of the letters of a sample, if there is one.

    >>> most_used_scripts(["one two", "नमस्ते"]), most_used_scripts(["12"])
    (('Latn',), ())
    """
    shares = _shares(_count_letters(texts))
    found = max(shares, key=shares.__getitem__)
    return _COMBINED.get(found, (found,)) if shares[found] > 0.5 else ()


def is_unspaced(language: str, declared: tuple[str, ...] = ()) -> bool:
    """Return whether a language, or one of its declared scripts, has no spaces between words.

    >>> is_unspaced("km"), is_unspaced("zh-Latn"), is_unspaced("hi")
    (True, False, False)
    """
    return bool(UNSPACED_SCRIPTS.intersection(scripts_of(language, declared)))


def in_usual_script(language: str) -> bool:
    """Return whether a tag names no other script than the usual one of its language.

    >>> in_usual_script("hi"), in_usual_script("hi-Deva"), in_usual_script("hi-Latn")
    (True, True, False)
    """
    return set(scripts_of(language)) == set(scripts_of(language.partition("-")[0]))


def _usual_script(language: str) -> str | None:
    """Return the code of the script in the tag, or of the likely one; `None` if there is none."""
    # CLDR fills the language in where it is not known: und is en-Latn.
    if is_domain(language) or language in _NO_LANGUAGE:
        return None
    code = langcodes.Language.get(language).maximize().script
    # Zyyy, Zzzz: no script in particular
    return None if code is None or code.startswith("Z") else str(code)


def main_script(text: str, min_letters: int = MIN_LETTERS) -> str:
    """Return the name of the script of most letters, "" with fewer letters than `min_letters`.

    Han, kana and Hangul are one, "CJK", because Japanese and Korean are written in several of them.

    >>> main_script("नमस्ते दुनिया " * 20), main_script("one two three " * 20), main_script("few")
    ('Devanagari', 'Latin', '')
    >>> main_script("東京都は日本の首都です" * 10), main_script("서울은 한국의 수도이다" * 10)
    ('CJK', 'CJK')
    """
    letters = Counter(filter(str.isalpha, text))
    if letters.total() < min_letters:
        return ""
    shares = _shares(letters)
    found = max(shares, key=shares.__getitem__)
    if _CJK.issuperset(_COMBINED.get(found, (found,))):
        return "CJK"
    return _script_names()[found] if shares[found] else ""


def _shares(letters: Counter[str]) -> dict[str, float]:
    """Return the share of letters that are in each script that Unicode knows, by its code."""
    match = _letter_scripts().match
    counts: Counter[str] = Counter()
    for letter, count in letters.items():
        found = match(letter)
        if found and found.lastgroup:
            counts[found.lastgroup] += count
    total = max(letters.total(), 1)
    shares = {}
    for code in _script_names():
        scripts = _COMBINED.get(code, (code,))
        if _letter_scripts().groupindex.keys() >= set(scripts):
            shares[code] = sum(counts[script] for script in scripts) / total
    return shares


@cache
def script_of(character: str) -> str | None:
    """Return the name of the script of a character, `None` for a character of no single script.

    `ANOTHER_SCRIPT` is one that Unicode knows, but not the registry of the names.

    >>> script_of("ि"), script_of("ᐃ"), script_of("1")
    ('Devanagari', 'Unified Canadian Aboriginal Syllabics', None)
    """
    found = _letter_scripts().match(character)
    if found and found.lastgroup:
        return _script_names()[found.lastgroup]
    return ANOTHER_SCRIPT if _IN_A_SCRIPT.match(character) else None


@cache
def _letter_scripts() -> regex.Pattern[str]:
    """Return an expression with a group for each script; the group that matches has its code."""
    groups = []
    for code in _script_names():
        group = rf"(?P<{code}>\p{{Script={code}}})"
        with suppress(regex.error):  # the registry has scripts that Unicode has not
            regex.compile(group)
            groups.append(group)
    return regex.compile("|".join(groups))


@cache
def _script_names() -> dict[str, str]:
    """Return the name of each script by its code."""
    names = registered_names("script")
    # Without Zyyy and Zinh, which are of no script.
    return {code: name for code, name in names.items() if re.fullmatch("[A-Y][a-z]{3}", code)}
