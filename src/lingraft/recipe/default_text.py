"""The text of a command that names a model and a language, but no text: a preset of the Hub.

Target text is fineweb-2. Replay text is fineweb-2 in the base language, and fineweb-edu in English,
which fineweb-2 does not have. Where the user names target text, replay text is added only if the
user names a base language: lingraft then reads from the Hub what was asked for and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lingraft.corpus import is_domain
from lingraft.corpus.presets import default_preset
from lingraft.corpus.text_fields import with_text_field
from lingraft.errors import RecipeError


@dataclass(frozen=True)
class Given:
    """Model and text given on the command line, in addition to a recipe or instead of one."""

    model: str | None = None
    language: str | None = None
    text: Sequence[str] = ()
    base_language: str | None = None
    base_text: Sequence[str] = ()
    text_field: str | None = None
    base_text_field: str | None = None

    def sources(self) -> list[Any]:
        """Return the sources of the target text, as a recipe has them."""
        return with_text_field(self.text, self.text_field)

    def base_sources(self) -> list[Any]:
        """Return the sources of the base text, as a recipe has them."""
        return with_text_field(self.base_text, self.base_text_field, "--base-text-field")


def with_default_text(given: Given, overridden: Sequence[str] = ()) -> Given:
    """Return what is given, with presets where no text is named.

    `overridden` are the paths of settings that overrides set. Raises `RecipeError` for a domain.
    """
    language = given.language or ""
    base_language = given.base_language or "en"
    names_text = bool(given.text) or _sets("target", overridden)
    if not names_text:
        if is_domain(language):
            msg = (
                f"--text must be given: {language} is not a language, and data sets on the Hub are "
                "named by language; give --text FILE"
            )
            raise RecipeError(msg)
        given = replace(given, text=(default_preset(language),))
    is_wanted = given.base_language or not names_text
    is_same = _primary(base_language) == _primary(language)
    if given.base_text or _sets("replay", overridden) or is_same or not is_wanted:
        return given
    return replace(given, base_text=(default_preset(base_language),))


def _sets(text: str, overridden: Sequence[str]) -> bool:
    corpus = (f"{text}.corpus", f"{text}.sources")
    return any(path == text or path.startswith(corpus) for path in overridden)


def _primary(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()
