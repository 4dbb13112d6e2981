"""Problems in kept text: not in NFC, already split into subtokens, or with NUL characters.

Each problem is counted, and a frequent one gives a warning. The text is not changed; a recipe can
set `unicode_normalization: NFC`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

WARNING_SHARE = 0.01
"""A finding in a smaller share of the documents is counted without a warning."""
NAMED_RECORDS = 3
"""Malformed records that are named; the others are only counted."""
MARKED_SHARE = 0.2
"""A document counts as split into subtokens if at least this share of its words has the mark."""
MARKS = {
    "SentencePiece": ("▁", re.compile(r"(?<!\S)▁\S"), "sed 's/ //g; s/▁/ /g'"),
    "GPT-2's byte-level BPE": ("Ġ", re.compile(r"(?<!\S)Ġ\S"), "sed 's/ //g; s/Ġ/ /g'"),
    "subword-nmt": ("@@", re.compile(r"\S@@(?!\S)"), "sed 's/@@ //g'"),
    "WordPiece": ("##", re.compile(r"(?<!\S)##\w"), "sed 's/ ##//g'"),
}
"""Tokenizer -> its mark, the pattern of a word with the mark, and the command that joins words."""


@dataclass
class Findings:
    """Counts of documents with a problem.

    `not_nfc_characters` counts the characters of words that NFC changes, `subtokens` the documents
    that are already split into subtokens, by tokenizer. `malformed` are the problems of records
    that could not be read.
    """

    documents: int = 0
    characters: int = 0
    not_nfc: int = 0
    not_nfc_characters: int = 0
    nul: int = 0
    subtokens: Counter[str] = field(default_factory=Counter)
    malformed: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count the findings of a document."""
        self.documents += 1
        self.characters += len(text)
        self.nul += "\0" in text
        if not unicodedata.is_normalized("NFC", text):
            self.not_nfc += 1
            for word in text.split():
                if not unicodedata.is_normalized("NFC", word):
                    self.not_nfc_characters += len(word)
        for tokenizer, (mark, pattern, _) in MARKS.items():
            # `mark in text` is false for almost all text and much faster than the pattern.
            if mark in text and len(pattern.findall(text)) >= MARKED_SHARE * len(text.split()):
                self.subtokens[tokenizer] += 1

    def notes(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        notes: dict[str, Any] = {
            "documents not in NFC": self.not_nfc,
            "characters of words not in NFC": self.not_nfc_characters,
            "documents with NUL characters": self.nul,
            "documents cut into pieces": dict(self.subtokens),
        }
        if self.malformed:  # only crawls have such records
            notes["malformed records"] = self.malformed[:NAMED_RECORDS]
        return notes

    def warnings(self) -> list[str]:
        """Return a warning with advice for each frequent finding."""
        messages = []
        if self.malformed:
            messages.append(
                f"malformed records are left out: {len(self.malformed):,}; the first: "
                f"{'; '.join(self.malformed[:NAMED_RECORDS])}"
            )
        if self._is_frequent(self.not_nfc):
            share = self.not_nfc_characters / max(self.characters, 1)
            messages.append(
                f"{self._share(self.not_nfc)} are not in NFC ({share:.1%} of the characters are in "
                "words that NFC changes); tokens learned from them do not match text in NFC, the "
                "usual form; set unicode_normalization: NFC in the corpus settings, unless the "
                "model will only read text like this"
            )
        for tokenizer, documents in self.subtokens.items():
            if self._is_frequent(documents):
                mark, _, command = MARKS[tokenizer]
                messages.append(
                    f"{self._share(documents)} are split into subtokens by {tokenizer} ({mark!r} "
                    "in their words), and tokens would be learned from the subtokens; use the "
                    f"original text, or join the words: {command}"
                )
        if self._is_frequent(self.nul):
            messages.append(
                f"{self._share(self.nul)} contain NUL characters, a sign of a wrong encoding "
                "(UTF-16 read as UTF-8 or Latin-1); decode the text again"
            )
        return messages

    def _is_frequent(self, documents: int) -> bool:
        return documents >= max(1, WARNING_SHARE * self.documents)

    def _share(self, documents: int) -> str:
        return f"{documents:,} of {self.documents:,} documents"
