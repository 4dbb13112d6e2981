"""How the run went: its stages, what each noted, which documents were dropped and why, and where it all comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lingraft.report.reading import RunFiles
from lingraft.report.words import duration, flat, number, size
from lingraft.vocabulary import AddedToken

EXAMPLES = 60
DROPPED = "dropped"


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
    return [StageRow(str(stage.get("title") or stage.get("name", "")), str(stage.get("key", "")),
                     "from the store" if stage.get("cached") else "done", duration(stage.get("seconds") or 0.0),
                     list(flat({key: value for key, value in (stage.get("notes") or {}).items()
                                if not _is_drops(key, value)})))
            for stage in record.get("stages", ())]


def drop_rows(record: Mapping[str, Any]) -> list[DropRow]:
    """Return the documents that no model saw, by corpus and reason."""
    return [DropRow(str(stage.get("title") or stage.get("name", "")), str(reason), number(cell["documents"]),
                    size(cell["bytes"]))
            for stage in record.get("stages", ())
            for key, cells in (stage.get("notes") or {}).items() if _is_drops(key, cells)
            for reason, cell in cells.items()]


def _is_drops(key: str, value: Any) -> bool:
    return key == DROPPED and isinstance(value, dict) and all(
        isinstance(cell, dict) and {"documents", "bytes"} <= cell.keys() for cell in value.values())


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
    notes = next((stage.get("notes") or {} for stage in run.record.get("stages", ())
                  if stage.get("name") == "embeddings"), {})
    return [(f"{side} rows", f"{_method(init)}: {_origins(init)}") for side, init in notes.get("inits", {}).items()]


def _method(init: Mapping[str, Any]) -> str:
    method = init.get("method")
    return next(iter(method), "") if isinstance(method, dict) else str(method or "")


def _origins(init: Mapping[str, Any]) -> str:
    return ", ".join(f"{number(count)} {origin}" for origin, count in init.get("origins", {}).items())


def provenance(run: RunFiles) -> Iterator[tuple[str, str]]:
    """Yield where the run comes from: dates, device, versions, keys, seeds."""
    record = run.record
    for name in ("started", "finished", "device", "key"):
        if record.get(name):
            yield name, str(record[name])
    yield from ((f"{name} version", str(version)) for name, version in record.get("versions", {}).items())
    yield from ((name.replace(".", " "), value) for name, value in flat(record.get("recipe", {}))
                if name == "seed" or name.endswith(".seed"))
