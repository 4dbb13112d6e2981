"""One corpus from several, interleaved so that every prefix contains each language in its share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from operator import truediv

from lingraft.corpus.corpus import MULTIPLE_LANGUAGES, Corpus, DocumentWriter, write_counts
from lingraft.store import Draft


def blend_corpora(corpora: Sequence[Corpus], shares: Sequence[float], draft: Draft) -> None:
    """Write one corpus from several, with each language in its share of the bytes.

    The language with the least text for its share sets the size, and no document occurs twice. The
    notes count the bytes of the other languages that are left out. All held-out text is kept.
    """
    sizes = [corpus.counts("train").bytes for corpus in corpora]
    # The size at which the first language is used up.
    total = min(map(truediv, sizes, shares))
    chats = any(corpus.has_chats for corpus in corpora)
    counts = {}
    streams = {"train": _interleave(corpora, shares, total), "heldout": _read_heldout(corpora)}
    for split, texts in streams.items():
        with DocumentWriter(draft.path(f"{split}.parquet"), chats=chats) as writer:
            for text in texts:
                writer.write(text, len(text.encode()))
        counts[split] = asdict(writer.counts)
    left_out = {}
    for corpus, size, share in zip(corpora, sizes, shares, strict=True):
        left_out[corpus.language] = max(round(size - share * total), 0)
    notes = {
        "languages": [corpus.language for corpus in corpora],
        "shares": [round(share, 6) for share in shares],
        "bytes left out": left_out,
    }
    draft.notes.update(counts | notes)
    write_counts(draft, MULTIPLE_LANGUAGES, counts, notes)


def _read_heldout(corpora: Sequence[Corpus]) -> Iterator[str]:
    for corpus in corpora:
        yield from corpus.documents("heldout")


def _interleave(corpora: Sequence[Corpus], shares: Sequence[float], total: float) -> Iterator[str]:
    """Yield the next document of the language that is furthest behind its share."""
    streams = [corpus.documents("train") for corpus in corpora]
    used = [0.0] * len(corpora)
    unfinished = set(range(len(corpora)))
    while unfinished:
        behind = min(unfinished, key=lambda i: (used[i] / shares[i], i))
        text = next(streams[behind], None)
        if text is None or used[behind] >= shares[behind] * total:
            unfinished.discard(behind)
            continue
        used[behind] += len(text.encode())
        yield text
