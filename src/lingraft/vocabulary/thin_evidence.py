"""Making the most of little held-out text: documents, then their lines, then their sentences.

A claim on three documents proves little, and three long documents hold hundreds of lines. Where a
language has fewer than `MIN_DOCUMENTS` held-out documents, its documents are also cut into lines and,
while that is not enough, into sentences, until there are `MIN_PIECES` texts.

What an extension warns of after its certificate: thin evidence, and much changed base text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import regex

from lingraft.certificate import Claim
from lingraft.corpus import Corpus
from lingraft.store import Draft

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


def warn_of_thin_evidence(corpus: Corpus, draft: Draft) -> None:
    """Warn where the certificate has few documents of a language to check its claims on."""
    held_out = corpus.counts("heldout")
    if not is_thin(held_out.documents):
        return
    texts = sum(1 for _ in enough_texts(corpus.documents("heldout")))
    draft.warn(
        f"certificate: {held_out.documents:,} held-out documents of {corpus.language} "
        f"({held_out.bytes:,} bytes) are thin evidence; with their lines and sentences "
        f"{texts:,} texts are checked; give more text, or raise heldout_share"
    )


def changed_base_text(changed: Claim, language: str, cost: float | None) -> str:
    """Return the warning that much base text is tokenised differently, with the price of protection.

    `cost` is the share by which the target text would grow, `None` where a method cannot say.
    """
    price = "at a cost that this method cannot predict"
    if cost is not None:
        price = f"for {cost:.1%} more tokens in the target text"
    return (
        f"vocabulary: {changed.value:,} of {changed.of:,} held-out texts in {language} "
        f"({changed.value / changed.of:.1%}) are tokenised differently than before; "
        f"vocabulary.protect_replay: true keeps all training text in {language} as it was, {price}"
    )
