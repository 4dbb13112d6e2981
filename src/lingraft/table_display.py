"""Tables of `rich` as plain text and as HTML, so that results show the same table everywhere.

A result object returns them from `__str__` and `_repr_html_`: Python and notebooks then show the
table that a command prints.
"""

from __future__ import annotations

from html import escape
from io import StringIO
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 160
"""Columns of a table where there is no terminal."""


def plain_console(**settings: Any) -> Console:
    """Return a console that prints strings as they are.

    `rich` would read markup in names and tokens: `[/INST]` is an error, and `[b]` disappears.
    """
    return Console(markup=False, emoji=False, **settings)


def as_text(renderable: RenderableType) -> str:
    """Return what a command prints without a terminal, without spaces at the ends of lines.

    >>> table = Table("metric", "value", box=None, pad_edge=False)
    >>> table.add_row("bits per byte", "1.5")
    >>> print(as_text(table))
    metric         value
    bits per byte  1.5
    """
    output = StringIO()
    console = plain_console(file=output, width=WIDTH, color_system=None, force_terminal=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip().split("\n"))


def as_html(renderable: RenderableType) -> str:
    """Return tables and lines of text as HTML; every string is escaped.

    >>> as_html(Group(Text("a < b")))
    '<p>a &lt; b</p>'
    """
    if isinstance(renderable, Group):
        return "\n".join(map(as_html, renderable.renderables))
    if isinstance(renderable, Table):
        return _table_html(renderable)
    text = _plain(renderable)
    return f"<p>{escape(text)}</p>" if text.strip() else ""


def _table_html(table: Table) -> str:
    title = f"<caption>{escape(_plain(table.title))}</caption>" if table.title else ""
    heads = "".join(_cell("th", column.header, column.justify) for column in table.columns)
    lines = []
    columns = [list(column.cells) for column in table.columns]
    for number in range(table.row_count):
        cells = []
        for column, values in zip(table.columns, columns, strict=True):
            cells.append(_cell("td", values[number], column.justify))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = f"<thead><tr>{heads}</tr></thead>" if table.show_header else ""
    return f"<table>{title}{head}<tbody>{''.join(lines)}</tbody></table>"


def _cell(tag: str, content: RenderableType, justify: str) -> str:
    # Named for each cell, because notebooks align all cells to the right.
    align = justify if justify in {"left", "center", "right"} else "left"
    return f'<{tag} style="text-align: {align}">{escape(_plain(content))}</{tag}>'


def _plain(content: object) -> str:
    """Return the text of a cell without styles."""
    return content.plain if isinstance(content, Text) else str(content)
