"""More texts to check where there are few held-out documents: their lines and sentences.

A claim that holds on three documents proves little, but three long documents hold hundreds of
lines. If a language has fewer than `MIN_DOCUMENTS` held-out documents, they are also cut into
lines. If there are still fewer than `MIN_TEXTS` texts, the lines are cut into sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import regex

from lingraft.corpus import Corpus
from lingraft.display_text import UNKNOWN_LANGUAGE, text_in
from lingraft.formatting import counted
from lingraft.measurement import MIN_DOCUMENTS
from lingraft.store import Draft

MIN_TEXTS = 200

# Full stops of Latin, Devanagari, Arabic, CJK, Myanmar and Ethiopic text among others.
_SENTENCE_END = regex.compile(r"(?<=[.!?।॥؟۔。！？။။።])\s+")


def enough_texts(documents: Iterable[str]) -> Iterator[str]:
    r"""Yield the documents, followed by their lines and sentences if there are few documents.

    >>> list(enough_texts(["one line\nanother. And more"]))
    ['one line\nanother. And more', 'one line', 'another. And more', 'another.', 'And more']
    """
    stream = iter(documents)
    texts = list(islice(stream, MIN_DOCUMENTS))
    yield from texts
    if len(texts) == MIN_DOCUMENTS:
        yield from stream
        return
    count = len(texts)
    for split in (str.splitlines, _SENTENCE_END.split):
        if count >= MIN_TEXTS:
            return
        parts_of_all: list[str] = []
        for text in texts:
            parts = [part for part in split(text) if part.strip()]
            parts_of_all += parts
            if len(parts) > 1:  # a text with a single part was yielded already
                count += len(parts)
                yield from parts
        texts = parts_of_all


def warn_of_thin_evidence(corpora: Sequence[Corpus], base: Corpus | None, draft: Draft) -> None:
    """Warn of languages with few held-out documents, on which claims and results rest."""
    for corpus in (*corpora, base) if base else corpora:
        held_out = corpus.counts("heldout")
        if held_out.documents >= MIN_DOCUMENTS:
            continue
        texts = sum(1 for _ in enough_texts(corpus.documents("heldout")))
        is_unknown = corpus is base and corpus.language == UNKNOWN_LANGUAGE
        what = "base text" if is_unknown else text_in(corpus.language)
        draft.warn(
            f"{what}: {counted(held_out.documents, 'held-out document')} "
            f"({held_out.bytes:,} bytes), too few to judge an improvement or a loss (at least "
            f"{MIN_DOCUMENTS}); the certificate also checks their lines and sentences ("
            f"{counted(texts, 'text')}); give more text, a larger heldout_share or, where held-out "
            "text is named, more of it"
        )
