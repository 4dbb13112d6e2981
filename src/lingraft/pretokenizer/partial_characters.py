"""Byte strings that begin or end inside a character, and the characters that they may belong to.

A byte-level token may hold a part of a UTF-8 character at each end. Such a part stands for every
character that begins, or ends, with these bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from lingraft.pretokenizer.regex_syntax import CODE_POINTS

# One missing byte has 64 completions, two have 4,096: enough for one end of a token with all of
# its completions, or for both ends with 64 each.
MAX_TEXTS = 4096

_NO_POINTS = np.empty(0, dtype=np.int64)


def split_characters(surface: bytes, begin: int) -> Iterator[tuple[bytes, int]]:
    """Yield each character, or part of a character, from `begin` on, with the index of its end."""
    at = begin
    while at < len(surface):
        end = at + 1
        # A part without its first byte takes all continuation bytes, a character only its own.
        limit = len(surface) if _is_continuation(surface[at]) else at + _length(surface[at])
        while end < min(limit, len(surface)) and _is_continuation(surface[end]):
            end += 1
        yield surface[at:end], end
        at = end


def _is_continuation(byte: int) -> bool:
    return 0x80 <= byte < 0xC0


def _length(lead: int) -> int:
    """Return the number of bytes of a character by its first byte."""
    if lead < 0x80:
        return 1
    if lead < 0xE0:
        return 2
    return 3 if lead < 0xF0 else 4


@lru_cache(maxsize=65536)
def code_points(symbol: bytes, *, is_first: bool) -> npt.NDArray[np.int64]:
    """Return the code points that a symbol may stand for.

    A whole character stands for itself, a part for every character that begins with it, or that
    ends with it where the symbol `is_first` in its surface. Bytes that are not part of UTF-8 stand
    for none.
    """
    with suppress(UnicodeDecodeError, TypeError):
        return np.array([ord(symbol.decode())], dtype=np.int64)
    if not _is_continuation(symbol[0]):
        return _points_beginning_with(symbol)
    return _points_ending_with(symbol) if is_first and len(symbol) < 4 else _NO_POINTS


def _points_beginning_with(symbol: bytes) -> npt.NDArray[np.int64]:
    length = _length(symbol[0])
    missing = length - len(symbol)
    first = _payload(symbol + b"\x80" * missing)
    points = np.arange(first, first + 64**missing)
    # Longer encodings of smaller code points are not valid UTF-8.
    smallest = (0, 0, 0x80, 0x800, 0x10000)[length]
    return points[(points >= smallest) & (points < CODE_POINTS)]


def _payload(encoded: bytes) -> int:
    """Return the number in the payload bits of an encoded character, valid or not."""
    value = encoded[0] & (0x7F if len(encoded) == 1 else 0xFF >> (len(encoded) + 1))
    for byte in encoded[1:]:
        value = value << 6 | byte & 0x3F
    return value


def _points_ending_with(symbol: bytes) -> npt.NDArray[np.int64]:
    value = 0
    for byte in symbol:
        value = value << 6 | byte & 0x3F
    # A character that ends with n continuation bytes has at least n + 1 bytes.
    smallest = (0, 0x80, 0x800, 0x10000)[len(symbol)]
    points = np.arange(value, CODE_POINTS, 1 << 6 * len(symbol))
    return points[points >= smallest]


def completions(surface: bytes) -> list[str]:
    """Return texts that contain these bytes.

    For valid UTF-8 these are the text itself, and the text with a space before or after it. Other
    bytes are completed to characters at both ends, in up to `MAX_TEXTS` ways.

    >>> completions(b"ab")
    ['ab', ' ab', 'ab ']
    >>> len(completions("\u0627".encode() + bytes([0xD9])))
    64
    """
    with suppress(UnicodeDecodeError):
        text = surface.decode()
        return [text, f" {text}", f"{text} "]
    choices = []
    for place, (symbol, _end) in enumerate(split_characters(surface, 0)):
        choices.append(code_points(symbol, is_first=place == 0))
    partial = sum(len(points) > 1 for points in choices)
    limit = round(MAX_TEXTS ** (1 / max(partial, 1)))
    texts = []
    for points in product(*(choice[:limit].tolist() for choice in choices)):
        text = "".join(map(chr, points))
        # Surrogates are code points, but no characters of a text.
        if not any(0xD800 <= point < 0xE000 for point in points):
            texts.append(text)
    return texts
