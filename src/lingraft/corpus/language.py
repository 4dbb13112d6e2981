"""The language of a corpus: a BCP-47 tag, or a domain that the user names (`domain:law`).

There is no list of supported languages. A tag is accepted if it is well formed and its primary
subtag is in the IANA registry, which includes ISO 639. A domain is accepted if its name has only
letters, digits, hyphens, underscores and dots.
"""

from __future__ import annotations

import difflib
import re
from functools import cache

import langcodes
from langcodes.registry_parser import parse_registry
from langcodes.tag_parser import LanguageTagError

from lingraft.errors import RecipeError

DOMAIN = "domain:"
AMBIGUOUS_TAGS = frozenset(
    {"ab", "am", "an", "as", "be", "da", "de", "go", "he", "id", "in", "is", "it", "la"}
    | {"me", "my", "no", "or", "os", "so", "to", "us", "we"}
)
"""Tags that are more often words in a file name with other words: to_train.txt, my-text.txt."""


def is_domain(language: str) -> bool:
    """Return whether this is a domain and not a language.

    >>> is_domain("domain:law"), is_domain("hi")
    (True, False)
    """
    return language.startswith(DOMAIN)


def parse_language(tag: str) -> str:
    """Return the tag in canonical form; raises `RecipeError` if it is no language and no domain.

    >>> [parse_language(tag) for tag in ("zh-hant", "pt-br", "tam", "domain:law")]
    ['zh-Hant', 'pt-BR', 'ta', 'domain:law']
    """
    if is_domain(tag):
        if re.fullmatch(r"[A-Za-z0-9._-]+", tag.removeprefix(DOMAIN)):
            return tag
        msg = f"language {tag!r}: write domain:NAME, with letters, digits, '-', '_' and '.' in NAME"
        raise RecipeError(msg)
    if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", tag):
        raise RecipeError(_refusal(tag, "not a well-formed BCP-47 tag"))
    try:
        canonical = langcodes.standardize_tag(tag)
        valid = langcodes.tag_is_valid(tag)
    except LanguageTagError as error:
        raise RecipeError(_refusal(tag, f"not a well-formed BCP-47 tag ({error})")) from None
    primary = canonical.split("-")[0]
    # ISO 639 reserves qaa to qtz for private use: langcodes calls them valid, but nobody else can
    # know which language is meant.
    if not valid or re.fullmatch(r"q[a-t][a-z]", primary):
        raise RecipeError(
            _refusal(tag, "not in the registry of languages and their subtags (ISO 639, IANA)")
        )
    return str(canonical)


def _refusal(tag: str, reason: str) -> str:
    nearest = _nearest(tag)
    suggestion = f"did you mean {nearest}? " if nearest else ""
    return (
        f"language {tag!r}: {reason}; {suggestion}expected a tag such as hi, pt-BR or zh-Hant, or "
        "domain:NAME for text of a domain"
    )


def _nearest(tag: str) -> str | None:
    """Return the language that the tag begins with, or whose English name is like the tag."""
    word = re.split(r"[-_ ]", tag.strip())[0].lower()
    if word != tag and 2 <= len(word) <= 3 and langcodes.tag_is_valid(word):
        return str(langcodes.standardize_tag(word))
    if len(word) <= 3:  # a short word is like too many names
        return None
    names = _english_names()
    close = difflib.get_close_matches(tag.strip().lower(), names, n=1, cutoff=0.75)
    return names[close[0]] if close else names.get(word)


@cache
def _english_names() -> dict[str, str]:
    """Return the subtag of each English name in the IANA registry; reading it takes 60 ms."""
    names: dict[str, str] = {}
    # Sorted by length: of two languages with one name, the one with the shorter subtag is meant.
    for entry in sorted(parse_registry(), key=lambda entry: len(entry.get("Subtag", ""))):
        if entry.get("Type") == "language" and "Deprecated" not in entry:
            for description in entry["Description"]:
                plain = re.sub(r"\s*\(.*\)", "", description).lower()
                names.setdefault(plain, entry["Subtag"])
    return names
