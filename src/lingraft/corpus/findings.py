"""Findings in kept text: not in NFC, split into pieces by a tokenizer, or with NUL characters.

Each finding is counted, with a warning where it is frequent. The text is not changed; a recipe can
set `unicode_normalization: NFC`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

NOTABLE = 0.01
"""A finding in a smaller share of the documents is counted, not warned of."""
MARKED = 0.2
"""A document is cut into pieces where so many of its words carry the mark."""
MARKS = {
    "SentencePiece": ("▁", re.compile(r"(?<!\S)▁\S"), "sed 's/ //g; s/▁/ /g'"),
    "GPT-2's byte-level BPE": ("Ġ", re.compile(r"(?<!\S)Ġ\S"), "sed 's/ //g; s/Ġ/ /g'"),
    "subword-nmt": ("@@", re.compile(r"\S@@(?!\S)"), "sed 's/@@ //g'"),
    "WordPiece": ("##", re.compile(r"(?<!\S)##\w"), "sed 's/ ##//g'"),
}
"""The mark of each cutter, where it stands in a word, and the command that undoes it."""


@dataclass
class Findings:
    """Counts of documents; `not_nfc_characters` are those of words that NFC changes."""

    documents: int = 0
    characters: int = 0
    not_nfc: int = 0
    not_nfc_characters: int = 0
    nul: int = 0
    cut: Counter[str] = field(default_factory=Counter)

    def look(self, text: str) -> None:
        """Look at a document."""
        self.documents += 1
        self.characters += len(text)
        self.nul += "\0" in text
        if not unicodedata.is_normalized("NFC", text):
            self.not_nfc += 1
            for word in text.split():
                if not unicodedata.is_normalized("NFC", word):
                    self.not_nfc_characters += len(word)
        for cutter, (mark, pattern, _) in MARKS.items():
            if mark in text and len(pattern.findall(text)) >= MARKED * len(text.split()):
                self.cut[cutter] += 1

    def notes(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        return {
            "documents not in NFC": self.not_nfc,
            "characters of words not in NFC": self.not_nfc_characters,
            "documents with NUL characters": self.nul,
            "documents cut into pieces": dict(self.cut),
        }

    def warnings(self) -> list[str]:
        """Return what is more than an accident, with what to do."""
        found = []
        if self._is_notable(self.not_nfc):
            share = self.not_nfc_characters / max(self.characters, 1)
            found.append(
                f"{self._of(self.not_nfc)} are not in NFC ({share:.1%} of the characters are in "
                f"words that "
                "NFC changes); tokens learned from them do not fit text in NFC, which is usual; "
                "set "
                "unicode_normalization: NFC in the corpus settings, unless all text to come is "
                "like this"
            )
        for cutter, documents in self.cut.items():
            if self._is_notable(documents):
                mark, _, command = MARKS[cutter]
                found.append(
                    f"{self._of(documents)} are cut into pieces by {cutter} ({mark!r} in their "
                    f"words); tokens would be learned of the pieces; give the text before it was "
                    f"cut, or "
                    f"put it together: {command}"
                )
        if self._is_notable(self.nul):
            found.append(
                f"{self._of(self.nul)} hold NUL characters, as text has that was decoded wrongly "
                "(UTF-16 read as UTF-8 or Latin-1); decode it again"
            )
        return found

    def _is_notable(self, documents: int) -> bool:
        return documents >= max(1, NOTABLE * self.documents)

    def _of(self, documents: int) -> str:
        return f"{documents:,} of {self.documents:,} documents"
