"""Text on the command line: `FILE`, or `LANG=FILE` where the language is named with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lingraft.corpus.language import AMBIGUOUS_TAGS, parse_language
from lingraft.corpus.text_fields import with_text_field
from lingraft.errors import CorpusError, RecipeError
from lingraft.progress import say

# The language must look like a tag, because the name of a file can contain "=" as well.
_TAGGED = re.compile(r"(domain:[A-Za-z0-9._-]+|[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)=(.*)")


def parse_text_argument(argument: str, language: str | None = None) -> tuple[str, str]:
    """Return language and file of `[LANG=]FILE`.

    Without LANG= it is `language`. Without that, the name of the file must have a known tag, which
    is then printed. Raises `CorpusError` if nothing names a language.

    >>> parse_text_argument("pt-br=news.txt"), parse_text_argument("ten.jsonl", "hi")
    (('pt-BR', 'news.txt'), ('hi', 'ten.jsonl'))
    """
    tagged = _TAGGED.fullmatch(argument)
    if tagged:
        return parse_language(tagged[1]), tagged[2]
    if language is not None:
        return parse_language(language), argument
    named = language_in_name(Path(argument).name)
    if named is None:
        msg = (
            f"--text {argument}: its language is not known; write LANG=FILE, for example "
            f"hi={argument}, or give --language"
        )
        raise CorpusError(msg)
    say(f"{argument}: taken as {named}, as its name says; for another language write LANG=FILE")
    return named, argument


def texts_by_language(
    arguments: Sequence[str], text_field: str | None = None, language: str | None = None
) -> dict[str, list[Any]]:
    """Return the sources of `[LANG=]FILE` arguments by language, with the field of their text.

    `language` is that of arguments without LANG=.

    >>> texts_by_language(["hi=a.csv", "hi=b.txt"], "body")
    {'hi': [{'path': 'a.csv', 'text_field': 'body'}, 'b.txt']}
    """
    parsed = [parse_text_argument(argument, language) for argument in arguments]
    sources = with_text_field([place for _, place in parsed], text_field)
    texts: dict[str, list[Any]] = {}
    for (tag, _), source in zip(parsed, sources, strict=True):
        texts.setdefault(tag, []).append(source)
    return texts


def texts_of_one_language(
    arguments: Sequence[str], language: str | None, options: tuple[str, str]
) -> tuple[str | None, list[str]]:
    """Return the language and the files of `[LANG=]FILE` arguments that have one language.

    `options` are the names of the options for text and for its language. The language is `None` if
    neither names it. Raises `RecipeError` if two languages are named.
    """
    named: set[str] = set()
    files = []
    for argument in arguments:
        tagged = _TAGGED.fullmatch(argument)
        if tagged:
            named.add(parse_language(tagged[1]))
        files.append(tagged[2] if tagged else argument)
    if not named:
        return language, files  # the recipe checks it, and names the setting
    if language:
        named.add(parse_language(language))
    if len(named) > 1:
        where = " and ".join(options) if language else options[0]
        entries = ", ".join(f"{{language: {tag}, corpus: ...}}" for tag in sorted(named))
        msg = (
            f"{where}: {len(named)} languages, {' and '.join(sorted(named))}; name one, or write "
            f"all into a recipe: target: [{entries}]"
        )
        raise RecipeError(msg)
    return named.pop(), files


def language_in_name(name: str) -> str | None:
    """Return the language that a file name has as a word, `None` if it has none or several.

    The word is a tag of two letters, alone or with a script or region. Tags of three letters are
    not read: too many are words (`ten` is Tama, `new` is Newari).

    >>> names = ("hi.train.jsonl.gz", "pt-BR.txt", "news_ta.txt", "zh_Hant.txt")
    >>> [language_in_name(name) for name in names]
    ['hi', 'pt-BR', 'ta', 'zh-Hant']
    >>> [language_in_name(name) for name in ("ten.jsonl", "my_text.txt", "hindi.txt", "en-hi.txt")]
    [None, None, None, None]
    """
    first = name.split(".", maxsplit=1)[0]
    if re.fullmatch(r"[a-z]{2}([-_]([A-Z][a-z]{3}|[A-Z]{2}))*", first):
        return _known(first)
    # The endings of files are no words of the name: notes.md is not Moldavian.
    stem = re.sub(r"(\.[A-Za-z0-9]{1,7}){1,2}$", "", name)
    words = [word for word in re.split(r"[._-]", stem) if re.fullmatch(r"[a-z]{2}", word)]
    known = {tag for word in words if word not in AMBIGUOUS_TAGS and (tag := _known(word))}
    return known.pop() if len(known) == 1 else None


def _known(tag: str) -> str | None:
    try:
        return parse_language(tag)
    except RecipeError:
        return None
