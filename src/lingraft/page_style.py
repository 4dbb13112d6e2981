"""The style sheet of every HTML page that lingraft writes or serves.

It has light and dark colours, fits a phone, and loads nothing. A table in a `.scroll` box scrolls
sideways inside its box, with a shadow at the edge where there is more to see.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

SHEET = Path(__file__).with_suffix(".css")


def page_style() -> Markup:
    """Return the style sheet, which contains no markup."""
    return Markup(SHEET.read_text(encoding="utf-8"))  # noqa: S704 - our own file
