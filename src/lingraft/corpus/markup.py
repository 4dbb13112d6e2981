"""HTML in a text: where it is, and the text without it."""

from __future__ import annotations

import html
import re

# Names of HTML elements, because text about programs has other names in angle brackets.
_ELEMENTS = (
    "a|abbr|article|aside|b|blockquote|body|br|button|center|code|col|dd|div|dl|dt|em|figure|font|"
    "footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|label|li|link|main|meta|nav|"
    "noscript|ol|option|p|pre|script|section|select|small|span|strong|style|sub|sup|svg|table|"
    "tbody|td|textarea|tfoot|th|thead|title|tr|u|ul|video"
)
TAG = re.compile(rf"</?(?:{_ELEMENTS})(?:\s[^<>]*)?/?>|<!--|<!doctype", re.IGNORECASE)
REFERENCE = re.compile(r"&(?:nbsp|amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9A-Fa-f]{1,6});")
_CONTAINERS = re.compile(
    r"<(script|style|noscript)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE
)
_LINE_TAGS = re.compile(
    r"[ \t]*</?(?:address|article|aside|blockquote|body|br|dd|div|dl|dt|figure|footer|form|h[1-6]|"
    r"head|header|hr|html|li|main|nav|ol|option|p|pre|section|select|table|tbody|td|tfoot|th|thead|"
    r"title|tr|ul)(?:\s[^<>]*)?/?>\s*|<!doctype[^<>]*>",
    re.IGNORECASE,
)
_REFERENCES = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_LINE_RUNS = re.compile(r"\n\s*\n\s*")


def find_markup(text: str) -> tuple[int, int] | None:
    """Return where the first tag or reference begins and ends, `None` without any.

    >>> find_markup("a < b, <b>c</b>"), find_markup("a <name> & another")
    ((7, 10), None)
    """
    match = TAG.search(text) or REFERENCE.search(text)
    return match.span() if match else None


def strip_html(text: str) -> tuple[str, int]:
    r"""Return a text without markup, and the number of tags and references that it had.

    >>> strip_html("<p>A &amp; B</p><p class='x'>C<script>x()</script> <b>D</b></p>")
    ('A & B\nC D', 8)
    """
    text, containers = _CONTAINERS.subn("", text)
    text, lines = _LINE_TAGS.subn("\n", text)
    text, tags = TAG.subn("", text)
    text, references = _REFERENCES.subn(_unescape, text)
    # Only between elements that make lines are blank lines layout: a reference alone, or a bold
    # word, is in text whose blank lines separate paragraphs.
    if containers or lines:
        text = _LINE_RUNS.sub("\n", text).strip()
    return text, containers + lines + tags + references


def _unescape(reference: re.Match[str]) -> str:
    # A no-break space in HTML is layout: left in the text it would be learned.
    return html.unescape(reference[0]).replace("\u00a0", " ")
