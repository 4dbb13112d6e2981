"""Filter documents, and count the dropped ones by reason.

The checks run in this order, and the first that fails is the reason that is counted: malformed (a
record of a crawl that cannot be read), the condition `where` of the source, with a message that is
not text (of a conversation), empty (only white space), too short, too long, in the held-out set,
duplicate, with evaluation text (`decontaminate`), wrong language (by lingua, from the extra
`language-id`), a weight of 0, and near-duplicate where `cleaning` asks for it. Two documents are
duplicates if their texts are equal after NFC normalisation and without outer white space. The text
is not changed here: `text_repairs` does that before.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lingraft.corpus.chat import IncompleteConversation
from lingraft.corpus.contamination import EvaluationIndex
from lingraft.corpus.language import is_domain
from lingraft.corpus.language_identifier import lingua_language, lingua_languages
from lingraft.corpus.warc import MalformedRecord
from lingraft.errors import MissingExtraError, RecipeError

if TYPE_CHECKING:
    from lingraft.corpus.config import CorpusSettings, LanguageCheck

# 16 bytes keep a million documents, with the split table, at about 140 MB of memory, and make an
# accidental collision practically impossible.
DIGEST_BYTES = 16
CHECKED_CHARACTERS = 1000
"""Characters at the beginning of a document that the language check reads."""


class Reason:
    """The reasons to drop a document, as counts and errors name them."""

    malformed = "malformed"
    incomplete = "with a message that is not text"
    where = "by where"
    where_null = "by where (null)"
    weight = "of weight 0"
    near_duplicate = "near-duplicate"
    near_heldout = "near-duplicate of the held-out set"
    empty = "empty"
    short = "too short"
    long = "too long"
    heldout = "in the held-out set"
    duplicate = "duplicate"
    evaluation = "with evaluation text"
    language = "wrong language"
    share = "beyond its source's share"
    limit = "beyond the limit"
    heldout_bytes = "beyond heldout_bytes"


@dataclass
class Tally:
    """Documents and bytes of one source, by split or by reason; every document is counted once."""

    label: str
    # Each pair is [documents, bytes].
    read: list[int] = field(default_factory=lambda: [0, 0])
    kept: dict[str, list[int]] = field(default_factory=dict)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=lambda: [0, 0])
    stopped_early: bool = False

    def count(self, size: int) -> None:
        """Count a document that was read."""
        self.read[0] += 1
        self.read[1] += size

    def keep(self, split: str, size: int) -> None:
        """Count a document that went into a split."""
        _add(self.kept, split, 1, size)

    def repeat(self, size: int) -> None:
        """Count one more copy of a document of the training text."""
        self.repeated[0] += 1
        self.repeated[1] += size

    def drop(self, reason: str, size: int) -> None:
        """Count a document that was dropped."""
        _add(self.dropped, reason, 1, size)

    def report(self) -> dict[str, Any]:
        """Return plain JSON: `read` is the sum of `kept` and `dropped`.

        `repeated` is there if the source has weights: the copies after the first ones.
        """
        repeated = {"repeated": _as_record(self.repeated)} if self.repeated[0] else {}
        return {
            "source": self.label,
            "read": _as_record(self.read),
            "kept": _as_records(self.kept),
            "dropped": _as_records(self.dropped),
            **repeated,
            "stopped_early": self.stopped_early,
        }


def _add(counts: dict[str, list[int]], name: str, documents: int, size: int) -> None:
    pair = counts.setdefault(name, [0, 0])
    pair[0] += documents
    pair[1] += size


def _as_records(counts: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    return {name: _as_record(pair) for name, pair in counts.items()}


def _as_record(pair: list[int]) -> dict[str, int]:
    return {"documents": pair[0], "bytes": pair[1]}


def sum_drops(tallies: Collection[Tally]) -> dict[str, dict[str, int]]:
    """Return the drops of several sources together, most frequent reason first."""
    sums: dict[str, list[int]] = {}
    for tally in tallies:
        for reason, (documents, size) in tally.dropped.items():
            _add(sums, reason, documents, size)
    most_frequent_first = sorted(sums, key=lambda reason: -sums[reason][0])
    return {reason: _as_record(sums[reason]) for reason in most_frequent_first}


def document_digest(text: str) -> bytes:
    """Return the hash by which documents are compared.

    >>> document_digest("e\u0301 ") == document_digest("\u00e9")
    True
    """
    normalised = unicodedata.normalize("NFC", text).strip()
    return hashlib.blake2b(normalised.encode(), digest_size=DIGEST_BYTES).digest()


class Cleaner:
    """Filters a stream of documents; it stores the hashes of those that it has seen."""

    def __init__(
        self,
        settings: CorpusSettings,
        *,
        in_language: Callable[[str], bool] | None,
        heldout: Collection[bytes] = frozenset(),
        evaluation: EvaluationIndex | None = None,
    ) -> None:
        self._min_characters = settings.min_characters
        self._max_characters = settings.max_characters
        self._in_language = in_language
        self._heldout = heldout
        self._evaluation = evaluation
        self.seen: set[bytes] = set()

    def filter(self, text: str) -> tuple[str | None, bytes]:
        """Return the reason to drop a document (`None` to keep it) and its hash.

        The hash is empty for a document that is dropped by its length.
        """
        if isinstance(text, MalformedRecord):
            return Reason.malformed, b""
        if isinstance(text, IncompleteConversation):
            return Reason.incomplete, b""
        bare = text.strip()
        if not bare:
            return Reason.empty, b""
        if len(bare) < self._min_characters:
            return Reason.short, b""
        if self._max_characters is not None and len(bare) > self._max_characters:
            return Reason.long, b""
        digest = document_digest(bare)
        return self._check_content(bare, digest), digest

    def _check_content(self, bare: str, digest: bytes) -> str | None:
        # Before the duplicates, so that the counts show the overlap with the held-out text.
        if digest in self._heldout:
            return Reason.heldout
        if digest in self.seen:
            return Reason.duplicate
        # Also if a check below drops it, as it would drop all copies: they are not checked again.
        self.seen.add(digest)
        if self._evaluation is not None and self._evaluation.find(bare):
            return Reason.evaluation
        # The language check is last: it is much slower than the others.
        if self._in_language is not None and not self._in_language(bare):
            return Reason.language
        return None


def language_filter(check: LanguageCheck, language: str) -> Callable[[str], bool]:
    """Return a function that checks whether a document is in the language.

    Raises `MissingExtraError` without lingua, `RecipeError` for a language that lingua lacks.
    """
    if is_domain(language):
        msg = f"language_check: {language} is a domain and cannot be checked; remove the setting"
        raise RecipeError(msg)
    if find_spec("lingua") is None:
        raise MissingExtraError("lingua", extra="language-id")
    import lingua

    expected = lingua_language(language)
    if expected is None:
        names = ", ".join(sorted(lingua_languages()))
        msg = (
            f"language_check: lingua does not support {language} (known: {names}); remove the "
            "setting"
        )
        raise RecipeError(msg)
    detector = lingua.LanguageDetectorBuilder.from_all_languages().build()

    def in_language(text: str) -> bool:
        beginning = text[:CHECKED_CHARACTERS]
        confidence = detector.compute_language_confidence(beginning, expected)
        return bool(confidence >= check.min_confidence)

    return in_language
