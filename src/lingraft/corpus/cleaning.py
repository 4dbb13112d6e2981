"""What is kept of the documents that were read, and a count of everything else by reason.

A document is tested in this order, and the first reason that holds is the one that is counted: empty (nothing but
space), too short, too long, in the held-out set, duplicate, wrong language. Two documents are the same where their
texts are, after NFC normalisation and without outer space. Kept text is left as it was read.
Seen documents are remembered by hashes of 16 bytes; with the ledger of the draw, a million take about 140 MB.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from lingraft.corpus.config import CorpusSettings

DIGEST_BYTES = 16


class Reason:
    """Why a document is not in the corpus, as counts and errors call it."""

    empty = "empty"
    short = "too short"
    long = "too long"
    heldout = "in the held-out set"
    duplicate = "duplicate"
    language = "wrong language"
    share = "beyond its source's share"
    limit = "beyond the limit"
    heldout_bytes = "beyond heldout_bytes"


@dataclass
class Tally:
    """Where the documents of one source went: number and bytes, by split or by reason. Every one is counted once."""

    label: str
    read: list[int] = field(default_factory=lambda: [0, 0])
    kept: dict[str, list[int]] = field(default_factory=dict)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    stopped_early: bool = False

    def count(self, size: int) -> None:
        """Count a document that was read."""
        self.read[0] += 1
        self.read[1] += size

    def keep(self, split: str, size: int) -> None:
        """Count a document that went into a split."""
        _count(self.kept, split, size)

    def drop(self, reason: str, size: int) -> None:
        """Count a document that was dropped."""
        _count(self.dropped, reason, size)

    def report(self) -> dict[str, Any]:
        """Return plain JSON: `read` is the sum of `kept` and `dropped`."""
        return {
            "source": self.label,
            "read": _cell(self.read),
            "kept": {split: _cell(cell) for split, cell in self.kept.items()},
            "dropped": {reason: _cell(cell) for reason, cell in self.dropped.items()},
            "stopped_early": self.stopped_early,
        }


def _count(cells: dict[str, list[int]], name: str, size: int) -> None:
    cell = cells.setdefault(name, [0, 0])
    cell[0] += 1
    cell[1] += size


def _cell(cell: list[int]) -> dict[str, int]:
    return {"documents": cell[0], "bytes": cell[1]}


def sum_of_drops(tallies: Collection[Tally]) -> dict[str, dict[str, int]]:
    """Return the drops of several sources together, most frequent reason first."""
    cells: dict[str, list[int]] = {}
    for tally in tallies:
        for reason, (documents, size) in tally.dropped.items():
            cell = cells.setdefault(reason, [0, 0])
            cell[0] += documents
            cell[1] += size
    return {reason: _cell(cell) for reason, cell in sorted(cells.items(), key=lambda item: -item[1][0])}


def digest_of(text: str) -> bytes:
    """Return the hash by which documents are compared.

    >>> digest_of("e\u0301 ") == digest_of("\u00e9")
    True
    """
    return hashlib.blake2b(unicodedata.normalize("NFC", text).strip().encode(), digest_size=DIGEST_BYTES).digest()


class Cleaner:
    """Judges documents one after the other, and remembers them."""

    def __init__(self, settings: CorpusSettings, *, in_language: Callable[[str], bool] | None,
                 heldout: Collection[bytes] = frozenset()) -> None:
        self._least = settings.min_characters
        self._most = settings.max_characters
        self._in_language = in_language
        self._heldout = heldout
        self.seen: set[bytes] = set()

    def judge(self, text: str) -> tuple[str | None, bytes]:
        """Return the reason to drop a document, `None` to keep it, and its hash (where its length is right)."""
        bare = text.strip()
        if not bare:
            return Reason.empty, b""
        if len(bare) < self._least:
            return Reason.short, b""
        if self._most is not None and len(bare) > self._most:
            return Reason.long, b""
        digest = digest_of(bare)
        return self._among_others(bare, digest), digest

    def _among_others(self, bare: str, digest: bytes) -> str | None:
        if digest in self._heldout:
            return Reason.heldout
        if digest in self.seen:
            return Reason.duplicate
        self.seen.add(digest)
        return Reason.language if self._in_language is not None and not self._in_language(bare) else None
