"""Short stories in five languages, generated without a download, for the demo and the tests.

A story is the same in each language, sentence by sentence: `stories` decides what happens, a table
file holds the words and sentence templates of a language, and one grammar module per language
inflects the words. A story is a pure function of (index, seed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from lingraft.errors import CorpusError, did_you_mean
from lingraft.miniature.arabic import Arabic
from lingraft.miniature.english import English
from lingraft.miniature.hindi import Hindi
from lingraft.miniature.sentences import Grammar, Lexicon, SentenceRenderer
from lingraft.miniature.stories import plan_story
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
    """Return the sentences of story `index`; sentence i means the same in each language.

    Raises `CorpusError` for a language that the miniature does not have.

    >>> sentences("tr", 0)[0]
    "Emine'nin eski bir aynası vardı."
    """
    renderer = _renderer(language)
    planned = plan_story(index, seed)
    return [renderer.render(event.key, event.slots, event.template) for event in planned]


def story(language: str, index: int, *, seed: int = 0) -> str:
    """Return story `index` as one paragraph; raises `CorpusError` like `sentences`."""
    return " ".join(sentences(language, index, seed=seed))


def stories(language: str, *, count: int, seed: int = 0) -> Iterator[str]:
    """Return an iterator over the first `count` stories; raises `CorpusError` at the call."""
    # Not a generator function: that would raise the error at the first story, not here.
    _renderer(language)
    return (story(language, index, seed=seed) for index in range(count))


@cache
def _renderer(language: str) -> SentenceRenderer:
    if language not in _GRAMMARS:
        msg = (
            f"language {language!r}: the miniature has no text in it; "
            f"{did_you_mean(language, LANGUAGES)}; for another language, replace `miniature` with "
            "your own text: a file, a folder, or owner/name of a hub data set"
        )
        raise CorpusError(msg)
    return SentenceRenderer(_GRAMMARS[language](Lexicon.read(language)))
