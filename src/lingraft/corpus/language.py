"""What a corpus is in: a BCP-47 language tag, or a domain of the user's own (`domain:law`).

Nothing here is a list of supported languages. A tag is accepted where it is well formed and its
primary subtag stands in the IANA registry (which takes it from ISO 639); a domain, where its name
is plain.
"""

from __future__ import annotations

import difflib
import re
from functools import cache

import langcodes
from langcodes.tag_parser import LanguageTagError

from lingraft.errors import RecipeError

DOMAIN = "domain:"


def is_domain(language: str) -> bool:
    """Say whether this names a domain rather than a language.

    >>> is_domain("domain:law"), is_domain("hi")
    (True, False)
    """
    return language.startswith(DOMAIN)


def parse_language(tag: str) -> str:
    """Return the tag in canonical form; raises `RecipeError` where it is no language and no domain.

    >>> [parse_language(tag) for tag in ("zh-hant", "pt-br", "tam", "domain:law")]
    ['zh-Hant', 'pt-BR', 'ta', 'domain:law']
    """
    if is_domain(tag):
        if re.fullmatch(r"[A-Za-z0-9._-]+", tag.removeprefix(DOMAIN)):
            return tag
        msg = (
            f"language {tag!r}: write domain:NAME with letters, digits, '-', '_' and '.' in its "
            f"name"
        )
        raise RecipeError(msg)
    if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", tag):
        raise RecipeError(_refusal(tag, "no well-formed BCP-47 tag"))
    try:
        canonical = langcodes.standardize_tag(tag)
        valid = langcodes.tag_is_valid(tag)
    except LanguageTagError as error:
        raise RecipeError(_refusal(tag, f"no well-formed BCP-47 tag ({error})")) from None
    primary = canonical.split("-")[0]
    if not valid or re.fullmatch(r"q[a-t][a-z]", primary):
        raise RecipeError(
            _refusal(tag, "not in the registry of languages and their subtags (ISO 639, IANA)")
        )
    return str(canonical)


def _refusal(tag: str, reason: str) -> str:
    expected = (
        "expected a tag such as hi, pt-BR or zh-Hant, or domain:NAME for text of your own kind"
    )
    nearest = _nearest(tag)
    return (
        f"language {tag!r}: {reason}; "
        + (f"did you mean {nearest}? " if nearest else "")
        + expected
    )


def _nearest(tag: str) -> str | None:
    """Return the language that the tag begins with, or whose English name it is, or nearly so."""
    word = re.split(r"[-_ ]", tag.strip())[0].lower()
    if word != tag and 2 <= len(word) <= 3 and langcodes.tag_is_valid(word):
        return str(langcodes.standardize_tag(word))
    names = _english_names()
    close = (
        difflib.get_close_matches(tag.strip().lower(), names, n=1, cutoff=0.75)
        if len(word) > 3
        else []
    )
    return names[close[0]] if close else names.get(word) if len(word) > 3 else None


@cache
def _english_names() -> dict[str, str]:
    """Read the IANA registry of langcodes (60 ms, only to explain an error)."""
    from langcodes.registry_parser import parse_registry

    names: dict[str, str] = {}
    for entry in sorted(parse_registry(), key=lambda entry: len(entry.get("Subtag", ""))):
        if entry.get("Type") == "language" and "Deprecated" not in entry:
            for description in entry["Description"]:
                plain = re.sub(r"\s*\(.*\)", "", description).lower()
                names.setdefault(plain, entry["Subtag"])
    return names
