"""Whether a document is in the stated language, by lingua (the extra `language-id`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lingraft.corpus.language import is_domain
from lingraft.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from lingraft.corpus.config import LanguageCheck

CHARACTERS = 1000


def language_judge(check: LanguageCheck, language: str) -> Callable[[str], bool]:
    """Return the test of a document; raises `MissingExtraError` without lingua, `RecipeError` for other languages."""
    if is_domain(language):
        msg = f"language_check: {language} names a domain, not a language, so nothing can be checked; leave it out"
        raise RecipeError(msg)
    try:
        import lingua
    except ModuleNotFoundError:
        raise MissingExtraError("lingua", extra="language-id") from None
    import langcodes

    known = {code.name.lower(): tongue for tongue in lingua.Language.all()
             for code in (tongue.iso_code_639_1, tongue.iso_code_639_3)}
    primary = langcodes.standardize_tag(language).split("-")[0]
    stated = known.get(primary)
    if stated is None:
        msg = f"language_check: lingua does not know {language}; leave it out (it knows: {', '.join(sorted(known))})"
        raise RecipeError(msg)
    detector = lingua.LanguageDetectorBuilder.from_all_languages().build()

    def in_language(text: str) -> bool:
        return bool(detector.compute_language_confidence(text[:CHARACTERS], stated) >= check.min_confidence)

    return in_language
