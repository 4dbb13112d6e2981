"""Making the most of little held-out text: documents, then their lines, then their sentences.

A claim on three documents proves little, and three long documents hold hundreds of lines. Where a
language has fewer than `MIN_DOCUMENTS` held-out documents, its documents are also cut into lines and,
while that is not enough, into sentences, until there are `MIN_PIECES` texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import regex

MIN_DOCUMENTS = 20
MIN_PIECES = 200

_SENTENCE_END = regex.compile(r"(?<=[.!?।॥؟۔。！？។။።])\s+")


def enough_texts(documents: Iterable[str]) -> Iterator[str]:
    r"""Yield the documents, followed by their lines and sentences where the documents are few.

    >>> list(enough_texts(["one line\nanother. And more"]))
    ['one line\nanother. And more', 'one line', 'another. And more', 'another.', 'And more']
    """
    stream = iter(documents)
    first = list(islice(stream, MIN_DOCUMENTS))
    yield from first
    if len(first) == MIN_DOCUMENTS:
        yield from stream
        return
    found, parts = len(first), first
    for cut in (str.splitlines, _SENTENCE_END.split):
        if found >= MIN_PIECES:
            return
        whole, parts = parts, []
        for text in whole:
            pieces = [piece for piece in cut(text) if piece.strip()]
            parts += pieces
            if len(pieces) > 1:  # a text of one line was yielded already
                found += len(pieces)
                yield from pieces


def is_thin(documents: int) -> bool:
    """Say whether so few documents are cut into lines."""
    return documents < MIN_DOCUMENTS
