r"""Sentences of a run's report with their tokens as boxes.

A token in samples.json is written as text, with bytes that are not UTF-8 as `\xNN`. A text can
contain these characters itself. So tokens are matched with the text from its start: a token that is
found literally is text, any other token is bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.display_text import direction

# Neighbours must differ, which any number above 1 ensures.
TOKEN_COLOURS = 5
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class TokenBox:
    """A token as a box: its id, its text or bytes in hexadecimal, and whether it was added."""

    id: int
    shown: str
    is_bytes: bool
    is_added: bool
    colour: int


@dataclass(frozen=True)
class TokenisedSample:
    """A sentence and its tokens with the source and the adapted tokenizer."""

    text: str
    language: str
    direction: str
    before: Sequence[TokenBox]
    after: Sequence[TokenBox]


def tokenised_samples(
    entries: Iterable[Mapping[str, Any]], added: Collection[int]
) -> list[TokenisedSample]:
    """Return the samples of samples.json; `added` holds the ids of the added tokens."""
    added_ids = frozenset(added)
    samples = []
    for entry in entries:
        text = entry["text"]
        before = token_boxes(text, entry["source"], frozenset())
        after = token_boxes(text, entry["target"], added_ids)
        samples.append(TokenisedSample(text, entry["language"], direction(text), before, after))
    return samples


def token_boxes(
    text: str, tokens: Iterable[Sequence[Any]], added: frozenset[int]
) -> list[TokenBox]:
    r"""Return a box for each token, given as id and text.

    >>> tokens = [[1, "a"], [2, " \\xe0"], [3, "\\xa4\\xa8"]]
    >>> [box.shown for box in token_boxes("a \u0928", tokens, frozenset())]
    ['a', '␣E0', 'A4 A8']
    """
    remaining, boxes = text.encode("utf-8", errors="surrogatepass"), []
    for position, (token_id, token) in enumerate(tokens):
        literal = token.encode("utf-8", errors="surrogatepass")
        is_bytes = bool(_ESCAPE.search(token)) and not remaining.startswith(literal)
        remaining = remaining.removeprefix(_unescape(token) if is_bytes else literal)
        shown = _show_token(token, is_bytes=is_bytes)
        colour = position % TOKEN_COLOURS
        boxes.append(TokenBox(token_id, shown, is_bytes, token_id in added, colour))
    return boxes


def _unescape(token: str) -> bytes:
    surface = b""
    for position, part in enumerate(_ESCAPE.split(token)):  # text, digits, text, digits, ...
        is_digits = position % 2 == 1
        surface += bytes.fromhex(part) if is_digits else part.encode("utf-8", "surrogatepass")
    return surface


def _show_token(token: str, *, is_bytes: bool) -> str:
    if is_bytes:
        # NUL separates bytes for now: the token itself may contain spaces.
        spelled = _ESCAPE.sub(lambda match: f"{match[1].upper()}\0", token.replace(" ", "␣"))
        return spelled.removesuffix("\0").replace("\0", " ")
    return token.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or "∅"
