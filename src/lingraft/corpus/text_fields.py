"""Take the document from the fields of a record, and name the right field where it is not there.

`read_document` returns a `Document`: the text, whether the condition `where` of its source drops
it, and its weight by the column that `weight` names.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lingraft.corpus.chat import MESSAGE_FIELDS, parse_conversation
from lingraft.corpus.record_values import field_names, kind_of_value, value_of
from lingraft.corpus.source import Source
from lingraft.corpus.warc import MalformedRecord
from lingraft.corpus.where import parse_condition
from lingraft.errors import CorpusError, RecipeError
from lingraft.file_kinds import without_compression

USUAL_NAMES = frozenset(
    {"text", "content", "contents", "raw_content", "body", "document", "article", "sentence"}
)
"""Names that data sets give to the field of the text."""
_MIN_PROSE_WORDS = 4


class Document(NamedTuple):
    """A document of a source; `passes` is the result of its condition, `None` for a null.

    `weight` is `None` for a null.
    """

    text: str
    passes: bool | None = True
    weight: float | None = 1.0


def read_document(record: Mapping[str, Any], source: Source, place: str) -> Document:
    """Return the document of a record; raises `CorpusError` for a missing field or column."""
    text = record_document(record, source, place)
    columns = source.where or source.document_weight
    if not columns or isinstance(text, MalformedRecord):
        return Document(text)
    passes = parse_condition(source.where).holds(record, place) if source.where else True
    weighting = source.document_weight
    return Document(text, passes, weighting.weight_of(record, place) if weighting else 1.0)


def record_document(record: Mapping[str, Any], source: Source, place: str) -> str:
    """Return the document of a record: its text, or a `Conversation` for the format chat."""
    if source.format == "chat":
        conversation = parse_conversation(record, source.text_field, place)
        _check_encodable(conversation.to_json(), "the conversation", place)
        return conversation
    try:
        return record_text(record, source, place)
    except CorpusError as error:
        chat = next((name for name in MESSAGE_FIELDS if isinstance(record.get(name), list)), None)
        if chat is None or source.text_field in record:
            raise
        msg = f"{place}: field {chat!r} is a conversation; set format: chat to read it"
        raise CorpusError(msg) from error


def record_text(record: Mapping[str, Any], source: Source, place: str) -> str:
    """Return the text of the field `source.text_field`, "" if it is null or NaN.

    Raises `CorpusError` that lists the fields of the record, and names the likely one.

    >>> hindi = Source(path="a.jsonl", text_field="translation.hi")
    >>> record_text({"translation": {"hi": "नमस्ते"}}, hindi, "a.jsonl:1")
    'नमस्ते'
    """
    field = source.text_field
    try:
        value = value_of(record, field)
    except KeyError:
        names = ", ".join(field_names(record)) or "none"
        msg = f'{place}: no field "{field}"; the fields are {names}; '
        raise CorpusError(msg + _advice(record, source)) from None
    # NaN: what Python's json writes for a missing value of pandas.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        names = ", ".join(field_names(record))
        msg = f'{place}: field "{field}" is {kind_of_value(value)}, not text; '
        raise CorpusError(msg + f"the fields are {names}; " + _advice(record, source))
    _check_encodable(value, f"field {field!r}", place)
    return value


def _check_encodable(text: str, what: str, place: str) -> None:
    try:
        text.encode()  # JSON can escape half of a surrogate pair, which UTF-8 cannot encode
    except UnicodeEncodeError:
        msg = (
            f"{place}: {what} contains half of a surrogate pair, which is not text; "
            "remove or correct the record"
        )
        raise CorpusError(msg) from None


def with_text_field(
    places: Sequence[str], field: str | None, option: str = "--text-field"
) -> list[Any]:
    """Return the settings of the sources that places mean, with the field of their text.

    A .txt file has no fields and stays as it is. Raises `RecipeError` if no place has fields.

    >>> with_text_field(["a.txt", "b.jsonl"], "body")
    ['a.txt', {'path': 'b.jsonl', 'text_field': 'body'}]
    """
    if field is None:
        return list(places)
    sources: list[Any] = []
    for place in places:
        if without_compression(place).endswith(".txt"):
            sources.append(place)
            continue
        source = _parse_source(place)
        if source.preset is not None or source.miniature is not None:
            msg = f"{option} {field}: {place} has its own field; leave the option out"
            raise RecipeError(msg)
        settings = source.model_dump(mode="json", exclude_defaults=True)
        sources.append({**settings, "text_field": field})
    if list(places) == sources:
        what = option.removesuffix("-field")
        msg = f"{option} {field}: no file of {what} has fields; leave it out, or give {what}"
        raise RecipeError(msg)
    return sources


def with_where(places: Sequence[Any], where: str) -> list[Any]:
    """Return the settings of sources with a condition; raises `RecipeError` if it is wrong.

    >>> with_where(["a.jsonl", {"path": "b.csv", "text_field": "body"}], "score>1")[1]
    {'path': 'b.csv', 'text_field': 'body', 'where': 'score > 1'}
    """
    try:
        condition = str(parse_condition(where))
    except ValueError as error:
        msg = f"--where: {error}"
        raise RecipeError(msg) from None
    sources: list[Any] = []
    for place in places:
        settings = _parse_source(place).model_dump(mode="json", exclude_defaults=True)
        sources.append({**settings, "where": condition})
    return sources


def _parse_source(place: object) -> Source:
    try:
        return Source.model_validate(Source.parse(place))
    except ValueError as error:  # a preset that is also a local path
        raise RecipeError(str(error)) from None


def _advice(record: Mapping[str, Any], source: Source) -> str:
    """Return what to type on the command line and in a recipe."""
    field = likely_text_field(record, source.text_field)
    field = field or "FIELD"
    place = source.model_dump(include={"path", "hub", "config"}, exclude_none=True)
    settings = ", ".join(f"{name}: {value}" for name, value in place.items())
    return f"give --text-field {field} (in a recipe: corpus: {{{settings}, text_field: {field}}})"


def likely_text_field(record: Mapping[str, Any], wanted: str) -> str | None:
    """Return the one field of a record that looks like its text; `None` if several do, or none.

    >>> likely_text_field({"id": "7", "title": "A bird", "body": "It sings."}, "text")
    'body'
    >>> likely_text_field({"en": "one", "hi": "एक"}, "text")
    """
    texts = dict(_strings(record))
    if len(texts) == 1:
        return next(iter(texts))
    last_parts = {name.rpartition(".")[2].lower(): name for name in texts}
    similar = difflib.get_close_matches(wanted.rpartition(".")[2].lower(), last_parts, n=1)
    if similar:
        return last_parts[similar[0]]
    usual = [name for part, name in last_parts.items() if part in USUAL_NAMES]
    prose = [name for name, value in texts.items() if len(value.split()) >= _MIN_PROSE_WORDS]
    for candidates in (usual, prose):
        if len(candidates) == 1:
            return candidates[0]
    return None


def _strings(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the value of each field that is text."""
    for name, value in record.items():
        if isinstance(value, str):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping) and not prefix:
            yield from _strings(value, f"{name}.")
