r"""The rows of a run's page: measurements, stages, dropped documents, sample sentences, generated text.

A piece in samples.json is the token's text, in which bytes that are no UTF-8 are written `\xNN`. A text may contain
such letters itself, so pieces are read along the text: what is literally there is text, everything else is bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lingraft.formatting import direction, duration, flat, number, size
from lingraft.measurement import TASKS, MetricChange
from lingraft.report.run_files import RunFiles
from lingraft.splice import AddedToken

HEADLINE = frozenset(
    {
        "tokens per word",
        "bits per byte",
        "documents tokenised identically",
        "generation speed",
        "premium over English",
        "under-trained added tokens",
    }
)
VERDICTS = {
    "": "",
    "better": "▲ better",
    "worse": "▼ worse",
    "same": "= same",
    "unclear": "≈ within the intervals",
    "untold": "no interval",
}
TOKEN_COLOURS = 5
EXAMPLES = 60
DROPPED = "dropped"
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def split_headline(table: Sequence[MetricChange]) -> tuple[list[MetricChange], list[MetricChange]]:
    """Return what a reader wants first, scores of tasks among it, and the rest.

    Where nothing is wanted first (a language of its own kind, say), everything is.
    """
    first = [
        one
        for one in table
        if one.metric in HEADLINE or any(row.split == TASKS for row in one.rows.values())
    ]
    return (first, [one for one in table if one not in first]) if first else (list(table), [])


@dataclass(frozen=True)
class StageRow:
    """A stage: how it came about, and its notes as name and value."""

    title: str
    key: str
    how: str
    time: str
    notes: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class DropRow:
    """Documents of one corpus that were dropped for one reason."""

    corpus: str
    reason: str
    documents: str
    bytes: str


def stage_rows(record: Mapping[str, Any]) -> list[StageRow]:
    """Return the stages in the order in which they ran."""
    return [
        StageRow(
            str(stage.get("title") or stage.get("name", "")),
            str(stage.get("key", "")),
            "from the store" if stage.get("cached") else "done",
            duration(stage.get("seconds") or 0.0),
            list(
                flat(
                    {
                        key: value
                        for key, value in (stage.get("notes") or {}).items()
                        if not _is_drops(key, value)
                    }
                )
            ),
        )
        for stage in record.get("stages", ())
    ]


def drop_rows(record: Mapping[str, Any]) -> list[DropRow]:
    """Return the documents that no model saw, by corpus and reason."""
    return [
        DropRow(
            str(stage.get("title") or stage.get("name", "")),
            str(reason),
            number(cell["documents"]),
            size(cell["bytes"]),
        )
        for stage in record.get("stages", ())
        for key, cells in (stage.get("notes") or {}).items()
        if _is_drops(key, cells)
        for reason, cell in cells.items()
    ]


def _is_drops(key: str, value: Any) -> bool:
    return (
        key == DROPPED
        and isinstance(value, dict)
        and all(
            isinstance(cell, dict) and {"documents", "bytes"} <= cell.keys()
            for cell in value.values()
        )
    )


def frequent(added: Sequence[AddedToken]) -> list[AddedToken]:
    """Return the added tokens that occur most, without single characters and what is no whole one."""
    ranked = sorted(added, key=lambda token: (-token.count, token.id))
    return list(islice((token for token in ranked if _is_word(token.surface)), EXAMPLES))


def _is_word(surface: bytes) -> bool:
    try:
        return len(surface.decode("utf-8").strip()) > 1
    except UnicodeDecodeError:
        return False


def row_notes(run: RunFiles) -> list[tuple[str, str]]:
    """Return how the added tokens got their rows: the methods, and how many rows came about in which way."""
    notes = next(
        (
            stage.get("notes") or {}
            for stage in run.record.get("stages", ())
            if stage.get("name") == "embeddings"
        ),
        {},
    )
    return [
        (f"{side} rows", f"{_method(init)}: {_origins(init)}")
        for side, init in notes.get("inits", {}).items()
    ]


def _method(init: Mapping[str, Any]) -> str:
    method = init.get("method")
    return next(iter(method), "") if isinstance(method, dict) else str(method or "")


def _origins(init: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{number(count)} {origin}" for origin, count in init.get("origins", {}).items()
    )


def provenance(run: RunFiles) -> Iterator[tuple[str, str]]:
    """Yield where the run comes from: dates, device, versions, keys, seeds."""
    record = run.record
    for name in ("started", "finished", "device", "key"):
        if record.get(name):
            yield name, str(record[name])
    yield from (
        (f"{name} version", str(version)) for name, version in record.get("versions", {}).items()
    )
    yield from (
        (name.replace(".", " "), value)
        for name, value in flat(record.get("recipe", {}))
        if name == "seed" or name.endswith(".seed")
    )


@dataclass(frozen=True)
class Box:
    """A token: its id, what is shown of it, and whether that is bytes in hex, and whether the token was added."""

    id: int
    shown: str
    is_bytes: bool
    is_added: bool
    colour: int


@dataclass(frozen=True)
class Sample:
    """A sentence and its tokens before and after."""

    text: str
    language: str
    direction: str
    before: Sequence[Box]
    after: Sequence[Box]


def samples(rows: Iterable[Mapping[str, Any]], added: Collection[int]) -> list[Sample]:
    """Return the samples of samples.json; `added` are the ids that the source did not have."""
    known = frozenset(added)
    return [
        Sample(
            row["text"],
            row["language"],
            direction(row["text"]),
            boxes(row["text"], row["source"], frozenset()),
            boxes(row["text"], row["target"], known),
        )
        for row in rows
    ]


def boxes(text: str, pieces: Iterable[Sequence[Any]], added: frozenset[int]) -> list[Box]:
    r"""Return a box for each piece.

    >>> [box.shown for box in boxes("a \u0928", [[1, "a"], [2, " \\xe0"], [3, "\\xa4\\xa8"]], frozenset())]
    ['a', '␣E0', 'A4 A8']
    """
    left, found = text.encode("utf-8", errors="surrogatepass"), []
    for place, (token_id, piece) in enumerate(pieces):
        literal = piece.encode("utf-8", errors="surrogatepass")
        is_bytes = bool(_ESCAPE.search(piece)) and not left.startswith(literal)
        left = left.removeprefix(_bytes_of(piece) if is_bytes else literal)
        shown = _shown(piece, is_bytes=is_bytes)
        found.append(Box(token_id, shown, is_bytes, token_id in added, place % TOKEN_COLOURS))
    return found


def _bytes_of(piece: str) -> bytes:
    parts = _ESCAPE.split(piece)  # text, digits, text, digits, ...
    return b"".join(
        bytes.fromhex(part) if place % 2 else part.encode("utf-8", errors="surrogatepass")
        for place, part in enumerate(parts)
    )


def _shown(piece: str, *, is_bytes: bool) -> str:
    if is_bytes:
        spelled = _ESCAPE.sub(lambda match: f"{match[1].upper()}\0", piece.replace(" ", "␣"))
        return spelled.removesuffix("\0").replace("\0", " ")
    return piece.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "∅"


@dataclass(frozen=True)
class Continued:
    """A prompt from held-out text, and what each model wrote after it, by subject."""

    language: str
    prompt: str
    direction: str
    texts: Sequence[tuple[str, str]]


def written(rows: Iterable[Mapping[str, str]]) -> list[Continued]:
    """Return the prompts of generated.json in their order, each with all that was written after it.

    >>> written([{"subject": "source", "language": "hi", "prompt": "a", "text": "b"},
    ...          {"subject": "adapted", "language": "hi", "prompt": "a", "text": "c"}])[0].texts
    [('source', 'b'), ('adapted', 'c')]
    """
    texts: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        texts.setdefault((row["language"], row["prompt"]), []).append((row["subject"], row["text"]))
    return [
        Continued(language, prompt, direction(prompt), found)
        for (language, prompt), found in texts.items()
    ]
