"""Sentences that say the same in several languages: a column each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lingraft.corpus import Source
from lingraft.corpus.readers import read_source
from lingraft.errors import CorpusError


def read_parallel(
    path: str, languages: Sequence[str], reference: str = "en"
) -> Mapping[str, Sequence[str]]:
    """Read a file of rows with a column for each language; rows where one is empty are left out in all.

    Raises `CorpusError` where a column is not there.
    """
    wanted = list(dict.fromkeys((reference, *languages)))
    columns = [
        list(read_source(Source(path=path, text_field=language), language)) for language in wanted
    ]
    rows = [row for row in zip(*columns, strict=True) if all(text.strip() for text in row)]
    if not rows:
        msg = f"{path}: no row has text in all of {', '.join(wanted)}"
        raise CorpusError(msg)
    return dict(zip(wanted, map(tuple, zip(*rows, strict=True)), strict=True))
