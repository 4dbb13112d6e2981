"""What the conditions and weights of sources do, counted in the beginnings of local files.

A run counts them in all text that it reads. Before it, `plan` and `diagnose` show these counts, and
a condition that drops everything is an error.
"""

from __future__ import annotations

from contextlib import closing
from functools import cache

from lingraft.corpus.cleaning import document_digest
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.first_look import FileVersion, file_versions, spread_files
from lingraft.corpus.readers import read_documents, read_file
from lingraft.corpus.remote_files import is_url
from lingraft.corpus.source import Source
from lingraft.corpus.text_files import find_files
from lingraft.corpus.text_preview import SAMPLE_CHARACTERS
from lingraft.errors import CorpusError
from lingraft.formatting import counted, percent


def column_lines(settings: CorpusSettings) -> list[str]:
    """Return what the conditions and weights of the sources do, counted in samples of local files.

    Raises `CorpusError` for a missing column, a wrong value, and a condition that drops all text.
    """
    lines = []
    for source in (*settings.sources, *(settings.heldout or ())):
        if not source.columns:
            continue
        if source.path is None or is_url(source.path):
            lines.append(f"{source.label}: {_column_settings(source)}, counted when it is read")
            continue
        files = find_files(source.path)
        lines.append(_column_line(source.model_dump_json(), tuple(file_versions(files))))
    return lines


def _column_settings(source: Source) -> str:
    parts = [f"where {source.where}"] if source.where else []
    if source.document_weight:
        parts.append(f"weight {source.document_weight.column}")
    return ", ".join(parts)


@cache
def _column_line(source_json: str, states: tuple[FileVersion, ...]) -> str:
    """Return the line of `column_lines` about files in a state, which are read once."""
    source = Source.model_validate_json(source_json)
    files = [path for path, _, _ in states]
    if source.limit is None:
        streams = [read_file(path, source) for path in spread_files(files)]
    else:
        # The first documents, as a run reads them: it does not open all files.
        streams = [read_documents(source, "und")]
    share = SAMPLE_CHARACTERS // len(streams)
    read = kept = nulls = copies = 0
    is_complete = source.limit is not None or len(streams) == len(files)
    for stream in streams:
        characters = 0
        with closing(stream) as documents:
            for text, passes, weight in documents:
                read += 1
                nulls += passes is None
                characters += len(text)
                if passes:
                    kept += 1
                    copies += _copies(source, text, weight)
                if characters >= share:
                    is_complete = False
                    break
    if read and not kept and is_complete:
        msg = (
            f"{source.label}: where {source.where} drops all {counted(read, 'document')}"
            f"{_nulls(nulls)}; relax it"
        )
        raise CorpusError(msg)
    where = "" if is_complete else " of a sample"
    line = f"{source.label}: {_column_settings(source)}:"
    if source.where:
        dropped = f"{read - kept:,} of {counted(read, 'document')}{where}"
        line += f" drops {dropped} ({percent((read - kept) / max(read, 1))}){_nulls(nulls)}"
    if source.document_weight:
        comma = "," if source.where else ""
        line += f"{comma} {counted(kept, 'document')}{where} count as {copies:,}"
    return line


def _nulls(documents: int) -> str:
    return f", {documents:,} of them by a null" if documents else ""


def _copies(source: Source, text: str, weight: float | None) -> int:
    if source.document_weight is None:
        return 1
    return source.document_weight.copies(1.0 if weight is None else weight, document_digest(text))
