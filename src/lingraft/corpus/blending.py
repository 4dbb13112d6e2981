"""Several corpora as one: documents interleaved so that every prefix holds each language in its share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from lingraft.corpus.corpus import COUNTS, SPLITS, Corpus, DocumentWriter
from lingraft.store import Draft

SEVERAL = "mul"
"""The BCP-47 tag of text in several languages."""


def blend_corpora(corpora: Sequence[Corpus], shares: Sequence[float], draft: Draft) -> None:
    """Write one corpus from several, by shares of bytes; as much as the scarcest language allows, nothing twice.

    What is left out of the other languages is counted in the notes. Held-out text is joined whole.
    """
    sizes = [corpus.counts("train").bytes for corpus in corpora]
    total = min(size / share for size, share in zip(sizes, shares, strict=True))
    counts, chats = {}, any(corpus.has_chats for corpus in corpora)
    for split in SPLITS:
        with DocumentWriter(draft.path(f"{split}.parquet"), chats=chats) as writer:
            for text in _interleaved(corpora, shares, total) if split == "train" else _joined(corpora):
                writer.write(text, len(text.encode()))
        counts[split] = asdict(writer.counts)
    notes = {"languages": [corpus.language for corpus in corpora], "shares": [round(share, 6) for share in shares],
             "bytes left out": {corpus.language: max(round(size - share * total), 0)
                                for corpus, size, share in zip(corpora, sizes, shares, strict=True)}}
    draft.notes.update(counts | notes)
    content = {"format": 1, "language": SEVERAL, "splits": counts, **notes}
    draft.path(COUNTS).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _joined(corpora: Sequence[Corpus]) -> Iterator[str]:
    for corpus in corpora:
        yield from corpus.documents("heldout")


def _interleaved(corpora: Sequence[Corpus], shares: Sequence[float], total: float) -> Iterator[str]:
    """Yield the next document of the language that is furthest behind its share."""
    streams = [corpus.documents("train") for corpus in corpora]
    used = [0.0] * len(corpora)
    open_ = set(range(len(corpora)))
    while open_:
        behind = min(open_, key=lambda i: (used[i] / shares[i], i))
        text = next(streams[behind], None)
        if text is None or used[behind] >= shares[behind] * total:
            open_.discard(behind)
            continue
        used[behind] += len(text.encode())
        yield text
