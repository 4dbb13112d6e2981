"""Filter the documents of a corpus one after the other, and keep those that pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lingraft.corpus.chat import IncompleteConversation, encode_document
from lingraft.corpus.cleaning import Cleaner, Reason, Tally
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.document_weight import DocumentWeight
from lingraft.corpus.health import TextHealth
from lingraft.corpus.near_duplicates import NearDuplicates, describe
from lingraft.corpus.splits import (
    DocumentHashes,
    Shuffle,
    ShuffledDocument,
    SplitTable,
    copy_orders,
)
from lingraft.corpus.text_fields import Document
from lingraft.corpus.text_repairs import TextRepairs
from lingraft.corpus.warc import MalformedRecord
from lingraft.errors import CorpusError

NAMED_RECORDS = 3
"""Records with a problem that are named; the others are only counted."""


class KeptDocument(NamedTuple):
    """The hashes of a kept document, its bytes, and how often it occurs in the training text."""

    hashes: DocumentHashes
    size: int
    copies: int


@dataclass
class WeightCounts:
    """How many documents have a weight by a column, a null as weight, or one above `max`."""

    weighted: int = 0
    null: int = 0
    above_max: int = 0

    def add(self, weight: float | None, most: int) -> None:
        """Count a document."""
        self.weighted += 1
        self.null += weight is None
        self.above_max += weight is not None and weight > most


@dataclass
class KeptDocuments:
    """The documents that pass the filters: text in the shuffle, hashes and sizes in the table.

    `near_duplicates` has the documents that were kept, `heldout_documents` of them before these.
    `near_duplicate` is an example of a document that it drops. `incomplete` has the first problems
    of conversations with a message that is not text.
    """

    shuffle: Shuffle
    tallies: list[Tally]
    cleaner: Cleaner
    settings: CorpusSettings
    repairs: TextRepairs
    health: TextHealth
    weighting: Sequence[DocumentWeight | None]
    near_duplicates: NearDuplicates | None = None
    heldout_documents: int = 0
    near_duplicate: dict[str, Any] = field(default_factory=dict)
    table: SplitTable = field(default_factory=SplitTable)
    weights: WeightCounts = field(default_factory=WeightCounts)
    malformed: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)

    def add(self, source: int, document: Document) -> KeptDocument | None:
        """Filter and count a document; return it if it is kept.

        Raises `CorpusError` if it is kept and too long to tokenise.
        """
        text, tally = document.text, self.tallies[source]
        if isinstance(text, MalformedRecord):
            self.malformed.append(text.problem)
        elif document.passes:
            text = self.repairs.repair(text)
        size = len(text.encode())
        if isinstance(text, IncompleteConversation):
            size = text.text_bytes
            if document.passes and len(self.incomplete) < NAMED_RECORDS:
                self.incomplete.append(text.problem)
        tally.count(size)
        if not document.passes:
            tally.drop(Reason.where_null if document.passes is None else Reason.where, size)
            return None
        reason, digest = self.cleaner.filter(text)
        if reason is not None:
            tally.drop(reason, size)
            if reason == Reason.duplicate:
                self.health.add_duplicate(text)
            return None
        copies = self._copies(source, document.weight, digest)
        if not copies:
            # A weight belongs to the record, not to the text: a copy may have another one.
            self.cleaner.seen.discard(digest)
            tally.drop(Reason.weight, size)
            return None
        # Before the text is looked at: its counts take several times its size in memory.
        if size > self.settings.max_document_bytes:
            raise CorpusError(_too_long(text, size, tally.label, self.settings))
        if self._is_near_duplicate(text, tally, size):
            return None
        self.health.add(text)
        hashes = DocumentHashes.of(digest, self.settings.seed)
        content = encode_document(text)
        for copy, order in enumerate(copy_orders(hashes.order, copies)):
            self.shuffle.put(ShuffledDocument(order, source, copy, digest, content))
        self.table.add(source, hashes, size, copies)
        return KeptDocument(hashes, size, copies)

    def _is_near_duplicate(self, text: str, tally: Tally, size: int) -> bool:
        """Return whether a document is like an earlier one; then it is counted as dropped."""
        compared = self.near_duplicates
        match = None if compared is None else compared.add(text, tally.label)
        if match is None:
            return False
        is_heldout = match.number < self.heldout_documents
        tally.drop(Reason.near_heldout if is_heldout else Reason.near_duplicate, size)
        self.near_duplicate = self.near_duplicate or describe(text, match)
        return True

    def _copies(self, source: int, weight: float | None, digest: bytes) -> int:
        """Return how often a document of this weight occurs in the training text."""
        weighting = self.weighting[source]
        if weighting is None:
            return 1
        self.weights.add(weight, weighting.max)
        return weighting.copies(1.0 if weight is None else weight, digest)


def _too_long(text: str, size: int, label: str, settings: CorpusSettings) -> str:
    limit = f"{settings.max_document_bytes / 1e6:g} MB"
    return (
        f"{label}: a document has {size / 1e6:.1f} MB (it begins with {text[:40]!r}), and "
        f"max_document_bytes is {limit}, because a document is tokenised as a whole; split it "
        "(document_unit: paragraph or line), drop it (max_characters), or raise the limit"
    )
