"""The text that a diagnosis looks at: a fair sample of what is given, and parallel sentences.

Files often hold one source after another, so the sample is drawn from everything that is read (at most `READ_BYTES`),
without repeated documents. How much text there is in all is kept too: tokens would be learned from all of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lingraft.corpus import Source, first_documents, parse_language
from lingraft.corpus.readers import read_source
from lingraft.errors import CorpusError, RecipeError
from lingraft.intrinsic import parallel

SAMPLE_BYTES = 2_000_000
READ_BYTES = 64_000_000

_TAGGED = re.compile(r"(domain:[A-Za-z0-9._-]+|[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)=(.+)")


@dataclass(frozen=True)
class Sample:
    """Documents of one language in random order; `given_bytes` is all text that they were drawn from.

    `cut_short` says that there was more text than is read.
    """

    language: str
    documents: tuple[str, ...]
    bytes: int
    given_bytes: int
    cut_short: bool = False


@dataclass(frozen=True)
class Parallel:
    """Sentences that say the same: `columns[language][i]`, for every i."""

    columns: Mapping[str, Sequence[str]]


def language_and_place(argument: str) -> tuple[str, str]:
    """Read [LANG=]FILE; without LANG= the file's name begins with the language.

    Raises `CorpusError` where neither says the language.

    >>> language_and_place("pt-br=news.txt"), language_and_place("text/hi.train.jsonl.gz")
    (('pt-BR', 'news.txt'), ('hi', 'text/hi.train.jsonl.gz'))
    """
    tagged = _TAGGED.fullmatch(argument)
    if tagged:
        return parse_language(tagged[1]), tagged[2]
    try:
        return parse_language(Path(argument).name.split(".")[0]), argument
    except RecipeError:
        msg = f"--text {argument}: its name does not say the language; write LANG=FILE, for example hi={argument}"
        raise CorpusError(msg) from None


def read_sample(language: str, places: Sequence[str], sample_bytes: int = SAMPLE_BYTES) -> Sample:
    """Draw a sample from files, globs or hub data sets; raises `CorpusError` where there is no text."""
    limit = max(READ_BYTES, sample_bytes)
    documents: dict[str, None] = {}
    given = 0
    cut_short = False
    for text in _texts(language, places):
        if given >= limit:
            cut_short = True
            break
        if text.strip() and text not in documents:
            documents[text] = None
            given += len(text.encode())
    if not documents:
        msg = f"{', '.join(places)}: holds no text to diagnose {language} on"
        raise CorpusError(msg)
    shuffled = list(documents)
    random.Random(0).shuffle(shuffled)
    chosen = tuple(first_documents(shuffled, sample_bytes))
    return Sample(language, chosen, sum(len(text.encode()) for text in chosen), given, cut_short)


def _texts(language: str, places: Sequence[str]) -> Iterator[str]:
    for place in places:
        source = Source.parse(place)
        assert isinstance(source, Source)  # noqa: S101 - a string was given
        with closing(read_source(source, language)) as texts:
            yield from texts


def read_parallel(path: str, languages: Sequence[str], reference: str = "en") -> Parallel:
    """Read a file of rows with a column for each language; rows where one is empty are left out in all.

    Raises `CorpusError` where a column is not there.
    """
    return Parallel(parallel.read_parallel(path, languages, reference))
