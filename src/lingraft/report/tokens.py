r"""Sample sentences as the page shows them: whole once, then cut by both tokenizers, one box a token.

A piece in samples.json is the token's text, in which bytes that are no UTF-8 are written `\xNN`. A text may hold such
letters itself, so pieces are read along the text: what stands there literally is text, what does not is bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.report.words import direction

COLOURS = 5
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


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
    return [Sample(row["text"], row["language"], direction(row["text"]),
                   boxes(row["text"], row["source"], frozenset()), boxes(row["text"], row["target"], known))
            for row in rows]


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
        found.append(Box(token_id, _shown(piece, is_bytes=is_bytes), is_bytes, token_id in added, place % COLOURS))
    return found


def _bytes_of(piece: str) -> bytes:
    parts = _ESCAPE.split(piece)  # text, digits, text, digits, ...
    return b"".join(bytes.fromhex(part) if place % 2 else part.encode("utf-8", errors="surrogatepass")
                    for place, part in enumerate(parts))


def _shown(piece: str, *, is_bytes: bool) -> str:
    if is_bytes:
        spelled = _ESCAPE.sub(lambda match: f"{match[1].upper()}\0", piece.replace(" ", "␣"))
        return spelled.removesuffix("\0").replace("\0", " ")
    return piece.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "∅"
