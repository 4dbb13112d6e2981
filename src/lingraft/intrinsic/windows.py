"""Cutting documents into windows of at most a context, so that every token is predicted exactly once.

A document is the token that begins a text (BOS, or EOS for models without one) followed by its ids. The first window
predicts as many tokens as the context holds; each later one moves by the stride and predicts the tokens that are new in
it, with the rest of the context before them. With a stride of the whole context this is what lm-eval's rolling
log-likelihood does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Inputs `start` to `end` (exclusive) of a document's sequence; tokens `first` to `end` (inclusive) are scored."""

    document: int
    start: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """How many tokens the model reads."""
        return self.end - self.start


def windows_of(document: int, tokens: int, context: int, stride: int) -> Iterator[Window]:
    """Yield the windows of a document of so many tokens.

    >>> [(w.start, w.first, w.end) for w in windows_of(0, tokens=7, context=4, stride=2)]
    [(0, 1, 4), (2, 5, 6), (3, 7, 7)]
    """
    first = 1
    while first <= tokens:
        end = min(tokens, first - 1 + (context if first == 1 else stride))
        yield Window(document, max(0, end - context), first, end)
        first = end + 1


def batches_of(windows: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """Yield windows of similar length together, the longest first, at most so many tokens with their padding."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: -window.length):
        if batch and batch[0].length * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
