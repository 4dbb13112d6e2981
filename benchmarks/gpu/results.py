"""What a piece has measured.

JSON and Markdown, written again after each row, so that a cut run keeps what it has.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUMMARY = "results.md"
MACHINE = "machine.json"
PIECES = ("a", "b", "c", "d", "e", "f")


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Its heading, the key of its value in a row, and how a number is written.
    """

    heading: str
    key: str
    form: str = ""

    def cell(self, row: dict[str, Any]) -> str:
        """Return the text of a cell, empty where nothing was measured."""
        value = row.get(self.key)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        return format(value, self.form) if isinstance(value, int | float) else str(value)


@dataclass
class Results:
    """The rows of a piece.

    `deadline` is a time of `time.monotonic`: the piece has to end by then.
    """

    piece: str
    title: str
    columns: Sequence[Column]
    folder: Path
    deadline: float
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    status: str = "running"

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, write both files, and print it."""
        self.rows.append(row)
        self.write()
        print(f"{self.piece} | {' | '.join(one.cell(row) for one in self.columns)}", flush=True)

    def end(self, status: str, notes: Sequence[str] = ()) -> None:
        """Say how the piece ended: complete, or what was left out.

        And what its rows say together.
        """
        self.status = status
        self.notes += notes
        self.write()
        print("\n".join([f"{self.piece}: {status}", *notes]), flush=True)

    def write(self) -> None:
        """Write both files, each whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        columns = [[one.heading, one.key, one.form] for one in self.columns]
        write_json(
            self.folder / f"{self.piece}.json",
            {
                "piece": self.piece,
                "title": self.title,
                "status": self.status,
                "facts": self.facts,
                "columns": columns,
                "rows": self.rows,
                "notes": self.notes,
            },
        )
        write_summary(self.folder)


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what each piece has written, by its letter."""
    found = {}
    for piece in PIECES:
        path = folder / f"{piece}.json"
        if path.is_file():
            found[piece] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_summary(folder: Path) -> None:
    """Write the Markdown of all pieces that are there."""
    lines = ["# Measured on a GPU", ""]
    machine = folder / MACHINE
    if machine.is_file():
        facts = json.loads(machine.read_text(encoding="utf-8"))
        lines += [*(f"- {name}: {value}" for name, value in facts.items()), ""]
    for piece, found in read_results(folder).items():
        columns = [Column(*one) for one in found["columns"]]
        lines += [f"## {piece}. {found['title']}", "", f"Status: {found['status']}.", ""]
        lines += [f"- {name}: {value}" for name, value in found["facts"].items()]
        lines += [
            "",
            f"| {' | '.join(one.heading for one in columns)} |",
            "|---" * len(columns) + "|",
        ]
        lines += [f"| {' | '.join(one.cell(row) for one in columns)} |" for row in found["rows"]]
        lines += ["", *found["notes"], ""]
    _write_whole(folder / SUMMARY, "\n".join(lines))


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is never seen half written."""
    _write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _write_whole(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
