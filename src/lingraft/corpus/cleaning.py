"""Which documents are kept, and how many were dropped for which reason.

The tests run in this order, and the first that fails is the reason that is counted: empty (white
space only), too short, too long, in the held-out set, duplicate, wrong language (by lingua, of the
extra `language-id`). Two documents are the same if their texts are, after NFC normalisation and
without outer white space. Kept text is not changed.
Seen documents are stored as hashes of 16 bytes; with the split table, a million take about 140 MB.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lingraft.corpus.language import is_domain
from lingraft.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from lingraft.corpus.config import CorpusSettings, LanguageCheck

DIGEST_BYTES = 16
CHECKED_CHARACTERS = 1000


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
    """Documents and bytes of one source, by split or by reason; every document is counted once."""

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
    return {
        reason: _cell(cell) for reason, cell in sorted(cells.items(), key=lambda item: -item[1][0])
    }


def digest_of(text: str) -> bytes:
    """Return the hash by which documents are compared.

    >>> digest_of("e\u0301 ") == digest_of("\u00e9")
    True
    """
    return hashlib.blake2b(
        unicodedata.normalize("NFC", text).strip().encode(), digest_size=DIGEST_BYTES
    ).digest()


class Cleaner:
    """Filters documents one after the other, and remembers their hashes."""

    def __init__(
        self,
        settings: CorpusSettings,
        *,
        in_language: Callable[[str], bool] | None,
        heldout: Collection[bytes] = frozenset(),
    ) -> None:
        self._min_characters = settings.min_characters
        self._max_characters = settings.max_characters
        self._in_language = in_language
        self._heldout = heldout
        self.seen: set[bytes] = set()

    def filter(self, text: str) -> tuple[str | None, bytes]:
        """Return the reason to drop a document, `None` to keep it, and its hash.

        The hash is empty for a document of the wrong length.
        """
        bare = text.strip()
        if not bare:
            return Reason.empty, b""
        if len(bare) < self._min_characters:
            return Reason.short, b""
        if self._max_characters is not None and len(bare) > self._max_characters:
            return Reason.long, b""
        digest = digest_of(bare)
        return self._compare(bare, digest), digest

    def _compare(self, bare: str, digest: bytes) -> str | None:
        if digest in self._heldout:
            return Reason.heldout
        if digest in self.seen:
            return Reason.duplicate
        self.seen.add(digest)
        return (
            Reason.language
            if self._in_language is not None and not self._in_language(bare)
            else None
        )


def language_filter(check: LanguageCheck, language: str) -> Callable[[str], bool]:
    """Return the test whether a document is in the language.

    Raises `MissingExtraError` without lingua, `RecipeError` for a language that it does not know.
    """
    if is_domain(language):
        msg = f"language_check: {language} is a domain and cannot be checked; remove the setting"
        raise RecipeError(msg)
    try:
        import lingua
    except ModuleNotFoundError:
        raise MissingExtraError("lingua", extra="language-id") from None
    import langcodes

    known = {}
    for candidate in lingua.Language.all():
        for code in (candidate.iso_code_639_1, candidate.iso_code_639_3):
            known[code.name.lower()] = candidate
    primary = langcodes.standardize_tag(language).split("-")[0]
    stated = known.get(primary)
    if stated is None:
        names = ", ".join(sorted(known))
        msg = (
            f"language_check: lingua does not know {language}; remove the setting (known: {names})"
        )
        raise RecipeError(msg)
    detector = lingua.LanguageDetectorBuilder.from_all_languages().build()

    def in_language(text: str) -> bool:
        return bool(
            detector.compute_language_confidence(text[:CHECKED_CHARACTERS], stated)
            >= check.min_confidence
        )

    return in_language
