"""A small world of short stories in five languages, so that a demo and the tests need no download.

The same story is told in each language, sentence by sentence: `plots` decides what happens, a table file holds words
and wordings, and one grammar module for each language inflects. A story is a pure function of (index, seed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from lingraft.errors import CorpusError, did_you_mean
from lingraft.miniature.arabic import Arabic
from lingraft.miniature.english import English
from lingraft.miniature.hindi import Hindi
from lingraft.miniature.sentences import Grammar, Lexicon, Teller
from lingraft.miniature.stories import plan
from lingraft.miniature.tamil import Tamil
from lingraft.miniature.turkish import Turkish

__all__ = ["LANGUAGES", "sentences", "stories", "story"]

_GRAMMARS: dict[str, Callable[[Lexicon], Grammar]] = {
    "en": English,
    "hi": Hindi,
    "tr": Turkish,
    "ar": Arabic,
    "ta": Tamil,
}
LANGUAGES: tuple[str, ...] = tuple(_GRAMMARS)


def sentences(language: str, index: int, *, seed: int = 0) -> list[str]:
    """Return story `index` as its sentences; sentence i says the same in each language.

    Raises `CorpusError` for a language that the world does not speak.

    >>> sentences("tr", 0)[0]
    "Emine'nin eski bir aynası vardı."
    """
    teller = _teller(language)
    return [teller.tell(one.key, one.slots, one.wording) for one in plan(index, seed)]


def story(language: str, index: int, *, seed: int = 0) -> str:
    """Return story `index` as one paragraph; raises `CorpusError` like `sentences`."""
    return " ".join(sentences(language, index, seed=seed))


def stories(language: str, *, count: int, seed: int = 0) -> Iterator[str]:
    """Yield the first `count` stories; raises `CorpusError` like `sentences`, before the first story."""
    _teller(language)
    return (story(language, index, seed=seed) for index in range(count))


@cache
def _teller(language: str) -> Teller:
    if language not in _GRAMMARS:
        msg = (
            f"language {language!r}: the miniature world does not speak it; {did_you_mean(language, LANGUAGES)}; "
            "for another language name text of your own in place of `miniature`: a file, a folder, or owner/name "
            "of a hub data set"
        )
        raise CorpusError(msg)
    return Teller(_GRAMMARS[language](Lexicon.read(language)))
