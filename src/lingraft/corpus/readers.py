"""Readers: a source becomes a stream of documents, in bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from lingraft.corpus.chat import from_markup
from lingraft.corpus.config import Source
from lingraft.corpus.hub_dataset import read_hub
from lingraft.corpus.records import document_of, read_records
from lingraft.corpus.text_files import MAX_DOCUMENT_BYTES, ending_of, find_files, lines
from lingraft.errors import CorpusError


def read_source(source: Source, language: str) -> Generator[str, None, None]:
    """Yield the documents of a source, up to the source's own limit.

    Close it where not all of them are wanted.
    """
    documents = size = 0
    with closing(_everything(source, language)) as texts:
        for text in texts:
            documents, size = documents + 1, size + len(text.encode())
            if source.limit is not None and not source.limit.allows(documents, size):
                return
            yield text


def _everything(source: Source, language: str) -> Generator[str, None, None]:
    if source.hub is not None:
        yield from read_hub(source)
    elif source.miniature is not None:
        from lingraft.miniature import stories

        yield from stories(language, count=source.miniature.stories, seed=source.miniature.seed)
    else:
        for path in find_files(str(source.path)):
            yield from read_file(path, source)


def read_file(path: Path, source: Source) -> Iterator[str]:
    """Yield the documents of a local file; raises `CorpusError` with the file and the line."""
    ending = ending_of(path)
    if ending == ".txt":
        for number, text in _plain_texts(path, source):
            is_chat = source.format == "chat"
            yield from_markup(text, f"{path}:{number}") if is_chat else text
        return
    if source.document_unit != "line":
        msg = (
            f"{path}: document_unit: {source.document_unit} is for .txt files; in {ending} files "
            f"every row "
            "is a document"
        )
        raise CorpusError(msg)
    field = source.text_field if source.format == "text" else None
    for record, place in read_records(path, field=field):
        yield document_of(record, source, place)


def _plain_texts(path: Path, source: Source) -> Iterator[tuple[int, str]]:
    """Yield the documents of a .txt file, each with the number of its last line."""
    numbered = lines(path)
    if source.document_unit == "line":
        yield from numbered
        return
    held: list[str] = []
    size = number = 0
    for number, text in numbered:
        if source.document_unit == "paragraph" and not text.strip():
            if held:
                yield number, "\n".join(held)
            held, size = [], 0
            continue
        held.append(text)
        size += len(text.encode()) + 1
        if size > MAX_DOCUMENT_BYTES:
            smaller = {"file": "paragraph or line", "paragraph": "line"}[source.document_unit]
            msg = (
                f"{path}:{number}: the document is longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB, "
                f"and a document is held in memory whole; set document_unit: {smaller}"
            )
            raise CorpusError(msg)
    if held:
        yield number, "\n".join(held)
