"""Draw the sample of text for a diagnosis.

Files often contain one source after another, so the sample is drawn at random from all text that is
read (at most `READ_BYTES`), without repeated documents. The size of all the text is kept as well,
because tokens would be learned from all of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ByteSize

from lingraft.corpus import (
    CorpusSettings,
    Limit,
    Source,
    column_lines,
    first_documents,
    look_at,
)
from lingraft.corpus.readers import read_source
from lingraft.errors import CorpusError
from lingraft.evaluation.words_kept_whole import TextWords
from lingraft.forecast.heldout_tokens import text_bytes
from lingraft.pipeline.text_summary import describe_source
from lingraft.progress import say
from lingraft.text_units import unit_of

SAMPLE_BYTES = 2_000_000
READ_BYTES = 64_000_000
PRESET_BYTES = 8_000_000
"""Bytes that are read of a preset: enough for a sample, and few to download."""


@dataclass(frozen=True)
class TextSample:
    """Documents of one language in random order, drawn from `given_bytes` of text.

    `bytes` is their size. `cut_short` is true if there was more text than `READ_BYTES`.
    """

    language: str
    documents: tuple[str, ...]
    bytes: int
    given_bytes: int
    cut_short: bool = False

    @cached_property
    def words(self) -> TextWords:
        """The words (or other units) of the documents, found once for all tokenizers."""
        return TextWords.of(self.documents, unit_of(self.documents))


def read_sample(
    language: str, places: Sequence[Any], sample_bytes: int = SAMPLE_BYTES
) -> TextSample:
    """Draw a sample from files, globs or Hub data sets; raises `CorpusError` without text.

    A place is a string, or a mapping with the settings of a source. The sample is whole documents
    until their size reaches `sample_bytes`. The same files give the same sample.
    """
    limit = Limit(bytes=ByteSize(max(PRESET_BYTES, sample_bytes)))
    sources = [_parse_source(place).resolve(language, limit) for place in places]
    settings = CorpusSettings.model_validate({"sources": sources})
    look_at(settings, language)
    for line in column_lines(settings):
        say(f"text in {language}: {line}")
    labels = ", ".join([source.label for source in sources])
    return draw_sample(language, _read_texts(language, sources), sample_bytes, labels)


def draw_sample(
    language: str, texts: Iterable[str], sample_bytes: int = SAMPLE_BYTES, where: str = "texts"
) -> TextSample:
    """Draw a sample from documents, as `read_sample` does; `where` names them in an error."""
    limit = max(READ_BYTES, sample_bytes)
    documents: dict[str, None] = {}  # a set that keeps the order of the files
    given = 0
    cut_short = False
    for text in texts:
        if given >= limit:
            cut_short = True
            break
        if text.strip() and text not in documents:
            documents[text] = None
            given += len(text.encode())
    if not documents:
        msg = (
            f"{where}: contains no text to diagnose {language} on; "
            "give a file with documents in this language"
        )
        raise CorpusError(msg)
    shuffled = list(documents)
    random.Random(0).shuffle(shuffled)
    chosen = tuple(first_documents(shuffled, sample_bytes))
    return TextSample(language, chosen, text_bytes(chosen), given, cut_short)


def _parse_source(place: Any) -> Source:
    try:
        return Source.model_validate(Source.parse(place))
    except ValueError as error:  # a preset that is also a local path
        raise CorpusError(str(error)) from None


def _read_texts(language: str, sources: Sequence[Source]) -> Iterator[str]:
    for source in sources:
        if source.hub is not None:
            say(f"text in {language}: {describe_source(source)}")
        # Closed here, because a caller that has enough text stops in the middle of a file.
        with closing(read_source(source, language)) as texts:
            yield from texts
