"""Count what is in documents besides plain text, in batches.

A batch is one string of a few hundred kilobytes. numpy and the regular expressions of Python look
at it as a whole: documents are looked at one by one only where the batch has something.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import regex

from lingraft.corpus import character_kinds as kinds
from lingraft.corpus.cut_lines import find_cut_documents
from lingraft.corpus.excerpts import excerpt
from lingraft.corpus.markup import find_markup, strip_html
from lingraft.corpus.mojibake import FIRST_BYTES, first_mojibake
from lingraft.text_units import UNSPACED_SCRIPTS, letters_in

BATCH_CHARACTERS = 200_000
MARKED_SHARE = 0.2
"""A document counts as split into subtokens if at least this share of its words has the mark."""
MARKS = {
    "SentencePiece": ("▁", re.compile(r"(?<!\S)▁\S"), "sed 's/ //g; s/▁/ /g'"),
    "GPT-2's byte-level BPE": ("Ġ", re.compile(r"(?<!\S)Ġ\S"), "sed 's/ //g; s/Ġ/ /g'"),
    "subword-nmt": ("@@", re.compile(r"\S@@(?!\S)"), "sed 's/@@ //g'"),
    "WordPiece": ("##", re.compile(r"(?<!\S)##\w"), "sed 's/ ##//g'"),
}
"""Tokenizer -> its mark, the pattern of a word with the mark, and the command that joins words."""

# Text without spaces goes on after an address without one: letters of such scripts, and signs like
# the Chinese full stop, are no part of it. Dashes are (Wikipedia), and brackets, if both are.
_OF_ADDRESS = rf"[^\s<>\"'()[\p{{P}}--[\p{{ASCII}}\p{{Pd}}]]{letters_in(UNSPACED_SCRIPTS)}]"
_REST_OF_ADDRESS = rf"(?:{_OF_ADDRESS}|\({_OF_ADDRESS}*\))+(?<![.,;:!?])"
# A domain name in such a script ends with a top-level domain. Letters of such a script after those
# of ASCII are text, even before a dot: "https://example.com" may stand before the name of a file.
_LETTER = rf"[{letters_in(UNSPACED_SCRIPTS)}&&[\p{{L}}\p{{M}}]]"
_LABEL = rf"[{_LETTER}ー][{_LETTER}ー\p{{Nd}}\-]*\."
_TOP_LEVEL = "[A-Za-z]{2,}|中国|中國|香港|台湾|台灣|澳門|新加坡|公司|网络|みんな|ไทย|ລາວ"
_HOST = rf"(?:[A-Za-z0-9\-]+\.)*(?:{_LABEL})+(?:{_TOP_LEVEL})"
URL = regex.compile(
    rf"https?://(?:{_HOST}(?:{_REST_OF_ADDRESS})?|{_REST_OF_ADDRESS})"
    rf"|www\.[\w-]+\.{_REST_OF_ADDRESS}",
    regex.VERSION1,
)
"""A web address, without the punctuation of the sentence after it.

Where a path in a script without spaces ends cannot be told from the text after it, so it stays.
"""
_BY_KIND = {
    kinds.NUL: "nul",
    kinds.CONTROL: "controls",
    kinds.SOFT_HYPHEN: "soft_hyphens",
    kinds.NO_BREAK_SPACE: "no_break_spaces",
    kinds.INVISIBLE: "invisible",
    kinds.BIDI: "bidi",
    kinds.REPLACEMENT: "replacement",
}
COUNTED = (*_BY_KIND.values(), "mojibake", "not_nfc", "markup", "urls", "cut_lines")
"""The checks whose documents are counted."""


class TextCounts:
    """Counts of the documents of a text in one language, after `finish`.

    `documents` is the number of documents by check, `subtokens` by tokenizer, `in_script` and
    `other_script` the number of letters. `examples` has the first place of each check.
    """

    def __init__(self, language: str, scripts: tuple[str, ...]) -> None:
        self.documents: Counter[str] = Counter()
        self.subtokens: Counter[str] = Counter()
        self.in_script = self.other_script = 0
        self.examples: dict[str, str] = {}
        self._batch: list[str] = []
        self._batch_characters = 0
        self._kinds = kinds.kinds_of(language, scripts)
        self._letters = kinds.letters_of(language, scripts)

    @property
    def counts_letters(self) -> bool:
        """Whether the script of the language is known."""
        return self._letters is not None

    def add(self, text: str) -> None:
        """Count a document, at the latest in `finish`."""
        self._batch.append(text)
        self._batch_characters += len(text)
        if self._batch_characters >= BATCH_CHARACTERS:
            self.finish()

    def note(self, name: str, text: str, start: int, end: int) -> None:
        """Keep the first example of a check."""
        if name not in self.examples:
            self.examples[name] = excerpt(text, start, end)

    def finish(self) -> None:
        """Count the documents that are not counted yet."""
        texts, self._batch = self._batch, []
        if not texts:
            return
        self._batch_characters = 0
        # One string: what is absent in it, as almost always, is absent in each document. A line
        # break belongs to no pattern that spans two documents.
        joined, codes, starts = _join(texts)
        plain, texts_of_letters = self._count_kinds(texts, codes, starts), texts
        if plain:
            texts_of_letters = [plain.get(number, text) for number, text in enumerate(texts)]
            _, codes, starts = _join(texts_of_letters)
        self._count_letters(texts_of_letters, codes, starts)
        self._count_patterns(texts, joined)

    def _count_kinds(
        self, texts: list[str], codes: kinds.Codes, starts: kinds.Codes
    ) -> dict[int, str]:
        """Count kinds of characters, markup, mojibake and cut lines.

        Return the text to count letters of, by document, where it is not the document itself.
        """
        found = np.take(self._kinds, codes)
        places = np.flatnonzero(found)
        found = found[places]
        documents = np.searchsorted(starts, places, side="right") - 1
        plain: dict[int, str] = {}
        for number in np.unique(documents[found == kinds.MARKUP]).tolist():
            self._count_one(texts, number, "markup", find_markup, plain)
        misread: dict[int, str] = {}
        for number in _documents_with_misread_bytes(codes, places, found, documents):
            self._count_one(texts, number, "mojibake", first_mojibake, misread)
        # The controls and soft hyphens of mojibake are bytes of its characters.
        kept = ~(_MISREAD[found] & np.isin(documents, list(misread)))
        for kind, name in _BY_KIND.items():
            chosen = np.flatnonzero(kept & (found == kind))
            if chosen.size:
                self.documents[name] += np.unique(documents[chosen]).size
                first = chosen[0]
                place = int(places[first] - starts[documents[first]])
                self.note(name, texts[documents[first]], place, place + 1)
        cut = find_cut_documents(codes[:-1], starts, places[found == kinds.BREAK])
        if cut:
            self.documents["cut_lines"] += len(cut)
            number, place = cut[0]
            self.note("cut_lines", texts[number], place, place + 1)
        return plain | misread

    def _count_one(
        self,
        texts: Sequence[str],
        number: int,
        name: str,
        find: Callable[[str], tuple[int, int] | None],
        plain: dict[int, str],
    ) -> None:
        """Count a document in which `find` finds something, and keep its plain text."""
        span = find(texts[number])
        if span:
            self.documents[name] += 1
            self.note(name, texts[number], *span)
            plain[number] = plain_text(texts[number])

    def _count_letters(self, texts: list[str], codes: kinds.Codes, starts: kinds.Codes) -> None:
        if self._letters is None:
            return
        found = np.take(self._letters, codes)
        other = np.add.reduceat(found == kinds.OTHER_SCRIPT, starts, dtype=np.int64)
        self.in_script += int(np.count_nonzero(found == kinds.IN_SCRIPT))
        self.other_script += int(other.sum())
        most = int(other.argmax())
        if other[most] and "wrong_script" not in self.examples:
            place = int(np.argmax(found[starts[most] :] == kinds.OTHER_SCRIPT))
            self.note("wrong_script", texts[most], place, place + 1)

    def _count_patterns(self, texts: list[str], joined: str) -> None:
        if not unicodedata.is_normalized("NFC", joined):
            for text in texts:
                if not unicodedata.is_normalized("NFC", text):
                    self.documents["not_nfc"] += 1
                    self.examples.setdefault("not_nfc", _word_not_in_nfc(text))
        if "://" in joined or "www." in joined:
            for text in texts:
                match = URL.search(text)
                if match:
                    self.documents["urls"] += 1
                    self.note("urls", text, match.start(), match.start() + 1)
        for tokenizer, (mark, pattern, _) in MARKS.items():
            if mark in joined:
                self._count_subtokens(texts, tokenizer, mark, pattern)

    def _count_subtokens(
        self, texts: list[str], tokenizer: str, mark: str, pattern: re.Pattern[str]
    ) -> None:
        for text in texts:
            if mark not in text:
                continue
            words = pattern.findall(text)
            if words and len(words) >= MARKED_SHARE * len(text.split()):
                self.subtokens[tokenizer] += 1
                place = text.index(mark)
                self.note("subtokens", text, place, place + 1)


def plain_text(text: str) -> str:
    """Return what letters are counted of: a text without tags, nothing of mojibake.

    >>> plain_text("<p>one &amp; two</p>"), plain_text("clichÃ© d'été")
    ('one & two', '')
    """
    if first_mojibake(text):
        return ""
    return strip_html(text)[0] if find_markup(text) else text


def _join(texts: Sequence[str]) -> tuple[str, kinds.Codes, kinds.Codes]:
    """Return texts as one string, its code points, and where each text begins."""
    joined = "".join(f"{text}\n" for text in texts)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1
    return joined, kinds.codes_of(joined), np.concatenate([[0], np.cumsum(lengths)[:-1]])


def _documents_with_misread_bytes(
    codes: kinds.Codes, places: kinds.Codes, found: kinds.Codes, documents: kinds.Codes
) -> list[int]:
    """Return the documents in which bytes of UTF-8 may be read as characters."""
    later = _MISREAD[found] & (places > 0)
    previous = codes[places[later] - 1]
    first = np.isin(previous, _FIRST_BYTES)
    numbers: list[int] = np.unique(documents[later][first]).tolist()
    return numbers


_FIRST_BYTES = np.array(list(map(ord, FIRST_BYTES)), dtype=np.uint32)
_MISREAD = np.zeros(kinds.MISREAD + 1, dtype=bool)
_MISREAD[[kinds.MISREAD, kinds.CONTROL, kinds.SOFT_HYPHEN, kinds.NO_BREAK_SPACE]] = True


def _word_not_in_nfc(text: str) -> str:
    """Return the first word that NFC changes, with its code points: it looks like any other."""
    for word in text.split():
        if not unicodedata.is_normalized("NFC", word):
            codes = " ".join(f"U+{ord(character):04X}" for character in word[:6])
            return f"{word[:20]} ({codes}{' …' if len(word) > 6 else ''})"
    return ""
