"""Read sources as streams of documents, in bounded memory.

`read_parallel` reads a file whose records contain the same sentence in several languages.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from lingraft.corpus.chat import parse_markup
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.hub_dataset import read_hub
from lingraft.corpus.listing import Listing
from lingraft.corpus.records import read_records
from lingraft.corpus.remote_files import TextFile
from lingraft.corpus.source import Source
from lingraft.corpus.text_fields import Document, read_document, record_text
from lingraft.corpus.text_files import MAX_DOCUMENT_BYTES, ending_of, find_files, read_lines
from lingraft.errors import CorpusError
from lingraft.miniature import stories


def read_source(
    source: Source, language: str, listing: Listing | None = None
) -> Generator[str, None, None]:
    """Yield the texts of a source that its condition keeps, up to the limit of the source.

    Files are read as they are in `listing`, by default as they are when reading starts. Close the
    generator if it is not read to its end.
    """
    with closing(read_documents(source, language, listing)) as documents:
        for document in documents:
            if document.passes:
                yield document.text


def read_documents(
    source: Source, language: str, listing: Listing | None = None
) -> Generator[Document, None, None]:
    """Yield the documents of a source, with those that its condition drops.

    These, and documents without text, do not count towards the limit of the source. Files are read,
    and the generator is closed, as above. Raises `CorpusError` if the first document is larger than
    the limit.
    """
    documents = size = 0
    source = source.resolve(language)
    with closing(_all_documents(source, language, listing)) as stream:
        for document in stream:
            if document.passes and document.text.strip():
                documents, size = documents + 1, size + len(document.text.encode())
                if source.limit is not None and not source.limit.allows(documents, size):
                    if documents == 1:
                        raise CorpusError(_limit_too_small(source, size))
                    return
            yield document


def _limit_too_small(source: Source, size: int) -> str:
    limit = source.limit and source.limit.bytes
    return (
        f"{source.label}: its limit of {limit:,} bytes is less than its first document "
        f"({size:,} bytes); raise the limit, or split the document"
    )


def _all_documents(
    source: Source, language: str, listing: Listing | None
) -> Generator[Document, None, None]:
    if source.hub is not None:
        yield from read_hub(source)
    elif source.miniature is not None:
        settings = source.miniature
        for text in stories(language, count=settings.stories, seed=settings.seed):
            yield Document(text)
    else:
        listing = listing or Listing.of([source])
        for path in listing.files[str(source.path)]:
            yield from _read_listed(path, source, listing)


def _read_listed(path: TextFile, source: Source, listing: Listing) -> Iterator[Document]:
    """Yield the documents of a file that must not change while it is read."""
    listing.check(path)
    try:
        yield from read_file(path, source)
    except (CorpusError, OSError):
        # A file that is written while it is read looks truncated or damaged.
        listing.check(path)
        raise
    listing.check(path)


def read_file(path: TextFile, source: Source) -> Generator[Document, None, None]:
    """Yield the documents of a file; a `CorpusError` names the file and the line."""
    ending = ending_of(path)
    if ending == ".txt":
        if columns := source.columns:
            msg = f"{path}: a .txt file has no column {columns[0]!r}; remove where and weight"
            raise CorpusError(msg)
        is_chat = source.format == "chat"
        for number, text in _text_documents(path, source):
            yield Document(parse_markup(text, f"{path}:{number}") if is_chat else text)
        return
    if source.document_unit != "line":
        msg = (
            f"{path}: document_unit: {source.document_unit} is for .txt files, and each record of "
            f"a {ending} file is a document; remove the setting"
        )
        raise CorpusError(msg)
    for record, place in read_records(path, fields=source.fields_read):
        yield read_document(record, source, place)


def _text_documents(path: TextFile, source: Source) -> Iterator[tuple[int, str]]:
    """Yield the documents of a .txt file, each with the number of its last line."""
    numbered = read_lines(path)
    if source.document_unit == "line":
        yield from numbered
        return
    current: list[str] = []  # the lines of the document that is being read
    size = number = 0
    for number, text in numbered:
        if source.document_unit == "paragraph" and not text.strip():
            if current:
                yield number, "\n".join(current)
            current, size = [], 0
            continue
        current.append(text)
        size += len(text.encode()) + 1  # with the line end
        if size > MAX_DOCUMENT_BYTES:
            smaller = {"file": "paragraph or line", "paragraph": "line"}[source.document_unit]
            msg = (
                f"{path}:{number}: the document is longer than {MAX_DOCUMENT_BYTES / 2**20:g} MiB, "
                f"and a document must fit into memory; set document_unit: {smaller}"
            )
            raise CorpusError(msg)
    if current:
        yield number, "\n".join(current)


def read_parallel(
    path: str,
    languages: Sequence[str],
    reference: str = "en",
    repaired: Mapping[str, CorpusSettings] | None = None,
) -> Mapping[str, Sequence[str]]:
    """Read a file of records with one column per language, and return the columns.

    `repaired` has the settings of the text of each language, of which the repairs apply to its
    sentences, too. A record with an empty field is left out in all languages. Raises `CorpusError`
    if a column is missing.
    """
    names = list(dict.fromkeys((reference, *languages)))
    sources = {name: Source(path=path, text_field=name) for name in names}
    columns: dict[str, list[str]] = {name: [] for name in names}
    for file in find_files(path):
        for record, place in read_records(file, fields=names):
            if missing := [name for name in names if name not in record]:
                msg = (
                    f"{place}: no column {' or '.join(missing)}; the columns are "
                    f"{', '.join(record)}; name the columns by the tags of the languages"
                )
                raise CorpusError(msg)
            for name, column in columns.items():
                column.append(record_text(record, sources[name], place))
    return repair_parallel(columns, repaired, path)


def repair_parallel(
    sentences: Mapping[str, Sequence[str]],
    repaired: Mapping[str, CorpusSettings] | None,
    where: str,
) -> dict[str, tuple[str, ...]]:
    """Repair the same sentences in several languages, and leave out those that lack a language.

    `where` names the sentences in the `CorpusError` that none is left.
    """
    columns: list[Iterable[str]] = []
    for language, texts in sentences.items():
        settings = (repaired or {}).get(language)
        columns.append(map(settings.repairs(language).repair, texts) if settings else texts)
    complete = [texts for texts in zip(*columns, strict=True) if all(map(str.strip, texts))]
    if not complete:
        languages = ", ".join(sentences)
        msg = f"{where}: no sentence has text in all of {languages}; give such sentences"
        raise CorpusError(msg)
    return dict(zip(sentences, zip(*complete, strict=True), strict=True))
