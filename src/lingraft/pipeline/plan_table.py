"""The rows of a plan, one for each stage, and their table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from lingraft.formatting import duration, flops, number

AMOUNTS = ("documents", "bytes", "tokens", "rows", "parameters")


@dataclass(frozen=True)
class PlanRow:
    """What is known about a stage before the run.

    `amounts` maps names of `AMOUNTS` to numbers, as far as these are known. `seconds` is the time
    that the stage will take: 0 if its output is cached, `None` if it is not known. `notes` are
    lines about the source model and its download, the text, or the tasks. `key` is `None` if it
    depends on a large text that was not hashed yet.
    """

    title: str
    key: str | None
    cached: bool
    amounts: dict[str, int] = field(default_factory=dict)
    flops: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def plan_table(rows: list[PlanRow]) -> Table:
    """Return the plan as a table to print."""
    table = Table(pad_edge=False, box=None, show_footer=True)
    left = _time(sum(row.seconds or 0 for row in rows))
    if any(row.seconds is None for row in rows):
        left = f"at least {left}" if left else "unknown"
    table.add_column("stage", footer="still to do")
    table.add_column("state")
    for name in AMOUNTS:
        table.add_column(name, justify="right")
    table.add_column("FLOPs", justify="right")
    table.add_column("estimated time", justify="right", footer=left)
    for row in rows:
        amounts = [number(row.amounts[name]) if name in row.amounts else "" for name in AMOUNTS]
        state = "cached" if row.cached else "to do"
        operations = flops(row.flops) if row.flops else ""
        table.add_row(row.title, state, *amounts, operations, _time(row.seconds))
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return duration(seconds) if seconds else ""
