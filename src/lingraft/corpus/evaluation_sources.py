"""The sources of `decontaminate`: training documents that contain their texts are dropped."""

from __future__ import annotations

from contextlib import closing

from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.contamination import MIN_CHARACTERS, MIN_WORDS, EvaluationIndex
from lingraft.corpus.listing import Listing
from lingraft.corpus.readers import read_source
from lingraft.corpus.remote_files import is_url
from lingraft.corpus.source import Source
from lingraft.errors import CorpusError
from lingraft.formatting import counted


def index_evaluation_text(
    settings: CorpusSettings, language: str, listing: Listing
) -> EvaluationIndex | None:
    """Return the index of the evaluation text, `None` without such sources.

    Raises `CorpusError` for a source without a document that is long enough.
    """
    if not settings.decontaminate:
        return None
    index = EvaluationIndex(())
    for source in settings.decontaminate:
        before = index.documents, len(index.skipped)
        for text in read_source(source, language, listing):
            index.add(text)
        read, skipped = index.documents - before[0], len(index.skipped) - before[1]
        if read == skipped:
            raise _nothing_to_find(source, read)
    return index


def check_searchable(settings: CorpusSettings, language: str) -> None:
    """Check that local sources have a document that is long enough; raises as above."""
    for source in settings.decontaminate or ():
        if source.path is None or is_url(source.path):
            continue
        index = EvaluationIndex(())
        with closing(read_source(source, language)) as texts:
            for text in texts:
                index.add(text)
                if not index.skipped:
                    break
                index.skipped.clear()
            else:
                raise _nothing_to_find(source, index.documents)


def _nothing_to_find(source: Source, read: int) -> CorpusError:
    msg = (
        f"decontaminate: {source.label}: its {counted(read, 'document')} cannot be searched for: "
        f"each needs at least {MIN_WORDS} words ({MIN_CHARACTERS} characters in a script without "
        "spaces); name a source with evaluation text"
    )
    return CorpusError(msg)
