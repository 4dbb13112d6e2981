"""The findings of a text health report as the lines of a table, for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.corpus.health_checks import BY_NAME
from lingraft.display_text import language_name
from lingraft.formatting import counted, percent


@dataclass(frozen=True)
class HealthRow:
    """What a check found, in strings; `level` is "", "warning" or "refused"."""

    found: str
    count: str
    share: str
    threshold: str
    level: str
    example: str


@dataclass(frozen=True)
class HealthTable:
    """The findings that are not zero, with the sentences that stand above the table."""

    title: str
    rows: Sequence[HealthRow]
    clean: int
    """The number of checks that found nothing."""
    unchecked: str


def health_table(report: Mapping[str, Any]) -> HealthTable:
    """Return the table of a report that was stored as JSON; findings that warn come first."""
    rows = []
    found = [finding for finding in report["findings"] if finding["count"]]
    for finding in sorted(found, key=lambda finding: not finding["level"]):
        check = BY_NAME.get(finding["check"])
        rows.append(
            HealthRow(
                finding["title"],
                f"{finding['count']:,} of {finding['of']:,} {finding['unit']}",
                percent(finding["count"] / max(finding["of"], 1)),
                percent(check.warn) if check else "",
                finding["level"],
                finding["example"],
            )
        )
    title = (
        f"Text in {language_name(report['language'])}: {counted(report['documents'], 'document')}"
    )
    return HealthTable(title, rows, len(report["findings"]) - len(found), report["unchecked"])
