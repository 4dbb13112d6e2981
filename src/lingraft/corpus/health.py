"""The health of a text: what is in it besides plain text in its language.

`TextHealth` reads documents in batches of a few hundred kilobytes. Each batch is one string, and
numpy and the regular expressions of Python look at it as a whole: documents are looked at one by
one only where the batch has something. The checks that are slow (the language, near-duplicates,
repeated lines) read a random sample of the documents. The text is not changed.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lingraft.corpus import character_kinds as kinds
from lingraft.corpus.cut_lines import find_cut_documents
from lingraft.corpus.health_checks import CHECKS, EXCERPT, MIXED, Finding, excerpt
from lingraft.corpus.health_sample import SAMPLE_DOCUMENTS, sample_findings
from lingraft.corpus.markup import find_markup, strip_html
from lingraft.corpus.mojibake import FIRST_BYTES, first_mojibake
from lingraft.corpus.script_check import (
    MIN_LETTERS,
    WrongScript,
    describe_scripts,
    find_wrong_script,
)
from lingraft.formatting import join_words

BATCH_CHARACTERS = 200_000
LONGEST = 4_000_000
"""Characters of a document that are looked at: of one of 17 MB, the counts took 200 MB."""
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

URL = re.compile(r"https?://[^\s<>\"']+|www\.[\w-]+\.[^\s<>\"']+")
_BY_KIND = {
    kinds.NUL: "nul",
    kinds.CONTROL: "controls",
    kinds.SOFT_HYPHEN: "soft_hyphens",
    kinds.NO_BREAK_SPACE: "no_break_spaces",
    kinds.INVISIBLE: "invisible",
    kinds.BIDI: "bidi",
    kinds.REPLACEMENT: "replacement",
}
_COUNTED = (*_BY_KIND.values(), "mojibake", "not_nfc", "markup", "urls", "cut_lines")


@dataclass(frozen=True)
class HealthReport:
    """What was found in a text, with all checks in the order of `CHECKS`.

    `unchecked` says which checks could not run, and why. `wrong_script` is set if most letters are
    in another script. `scripts` describes how much is in each of the declared scripts.
    """

    language: str
    documents: int
    characters: int
    sampled: int
    findings: tuple[Finding, ...]
    unchecked: str = ""
    wrong_script: WrongScript | None = None
    scripts: str = ""

    def warnings(self, what: str = "text") -> list[str]:
        """Return a sentence for each finding that warns or refuses."""
        found = [finding for finding in self.findings if finding.level]
        return [f"{what} in {self.language}: {finding}" for finding in found]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "language": self.language,
            "documents": self.documents,
            "characters": self.characters,
            "sampled_documents": self.sampled,
            "unchecked": self.unchecked,
            **({"scripts": self.scripts} if self.scripts else {}),
            "findings": [finding.as_json() for finding in self.findings],
        }


class TextHealth:
    """Counts what is in the documents of a text in one language; `report` gives the findings.

    `scripts` are those that the text is written in, if not only in the one of the language.
    """

    def __init__(
        self, language: str, *, identify: bool = True, scripts: tuple[str, ...] = ()
    ) -> None:
        self.language, self.scripts = language, scripts
        self._identify = identify
        self.documents = self.characters = 0
        self._batch: list[str] = []
        self._batch_characters = 0
        self._kinds = kinds.kinds_of(language, scripts)
        self._letters = kinds.letters_of(language, scripts)
        self._in_script = self._other_script = 0
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._subtokens: Counter[str] = Counter()
        self._sample: list[str] = []
        self._seen: set[int] = set()
        self._duplicates = 0
        self._random = random.Random(0)

    @classmethod
    def of(cls, language: str, texts: Iterable[str], scripts: tuple[str, ...] = ()) -> HealthReport:
        r"""Return the report of some texts.

        >>> report = TextHealth.of("hi", [f"सु\u00adबह बच्चे नदी, {n}" for n in range(3)])
        >>> [(found.check, found.count) for found in report.findings if found.level]
        [('soft_hyphens', 3)]
        """
        health = cls(language, scripts=scripts)
        for text in texts:
            health.add_once(text)
        return health.report()

    def add(self, text: str) -> None:
        """Count a document."""
        self.documents += 1
        self.characters += len(text)
        text = text[:LONGEST]
        self._batch.append(text)
        self._batch_characters += len(text)
        if len(self._sample) < SAMPLE_DOCUMENTS:
            self._sample.append(text)
        else:  # reservoir sampling: every document is in the sample with the same probability
            place = int(self._random.random() * self.documents)
            if place < SAMPLE_DOCUMENTS:
                self._sample[place] = text
        if self._batch_characters >= BATCH_CHARACTERS:
            self._count_batch()

    def add_once(self, text: str) -> None:
        """Count a document, or only its repetition if it was added with this method before."""
        seen = len(self._seen)
        self._seen.add(hash(text))
        if len(self._seen) == seen:
            self.add_duplicate(text)
        else:
            self.add(text)

    def add_duplicate(self, text: str) -> None:
        """Count a document that repeats another one and is not kept."""
        self._duplicates += 1
        self._note("duplicates", text, 0, min(len(text), EXCERPT))

    def report(self) -> HealthReport:
        """Return the findings of all documents so far."""
        self._count_batch()
        findings = {name: self._finding(name) for name in _COUNTED}
        # All text in another script, of tags or of mojibake would be called another language, too.
        causes = [findings[name] for name in ("mojibake", "markup") if findings[name].level]
        wrong = None
        if self._letters is not None:
            plain = list(filter(None, map(plain_text, self._sample)))
            wrong = find_wrong_script(self.language, plain, self.scripts)
            findings["wrong_script"] = self._script_finding(wrong)
        # An identifier takes text in two languages for one of them.
        identify = self._identify and not (wrong or causes or self.scripts)
        read = self.documents + self._duplicates
        example = self._examples.get("duplicates", "")
        findings["duplicates"] = Finding.of_check("duplicates", self._duplicates, read, example)
        findings["subtokens"] = self._subtoken_finding()
        sampled, unchecked = sample_findings(self.language, self._sample, identify=identify)
        findings |= sampled
        if self.scripts and self._identify:
            unchecked = "the language of the documents is not identified: scripts are declared"
        in_order = [findings[check.name] for check in CHECKS if check.name in findings]
        return HealthReport(
            self.language,
            self.documents,
            self.characters,
            len(self._sample),
            tuple(in_order),
            unchecked,
            wrong,
            describe_scripts(self._sample, self.scripts) if self.scripts else "",
        )

    def _finding(self, name: str) -> Finding:
        example = self._examples.get(name, "")
        return Finding.of_check(name, self._counts[name], self.documents, example)

    def _script_finding(self, wrong: WrongScript | None) -> Finding:
        letters = self._in_script + self._other_script
        return Finding.of_check(
            "wrong_script",
            # Of a few letters, a name in another script is a large share.
            self._other_script if letters >= MIN_LETTERS else 0,
            letters,
            self._examples.get("wrong_script", ""),
            unit="letters",
            detail=f"most letters are {wrong.remedy}; {MIXED}" if wrong else "",
        )

    def _subtoken_finding(self) -> Finding:
        tokenizers = [f"{name} ({MARKS[name][0]!r})" for name in self._subtokens]
        detail = ""
        if tokenizers:
            _, _, command = MARKS[next(iter(self._subtokens))]
            detail = (
                f"by {join_words(tokenizers)}, and tokens would be learned from the subtokens; use "
                f"the original text, or join the words: {command}"
            )
        count = min(self._subtokens.total(), self.documents)
        example = self._examples.get("subtokens", "")
        return Finding.of_check("subtokens", count, self.documents, example, detail=detail)

    def _count_batch(self) -> None:
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
                self._counts[name] += np.unique(documents[chosen]).size
                first = chosen[0]
                place = int(places[first] - starts[documents[first]])
                self._note(name, texts[documents[first]], place, place + 1)
        cut = find_cut_documents(codes[:-1], starts, places[found == kinds.BREAK])
        if cut:
            self._counts["cut_lines"] += len(cut)
            number, place = cut[0]
            self._note("cut_lines", texts[number], place, place + 1)
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
            self._counts[name] += 1
            self._note(name, texts[number], *span)
            plain[number] = plain_text(texts[number])

    def _count_letters(self, texts: list[str], codes: kinds.Codes, starts: kinds.Codes) -> None:
        if self._letters is None:
            return
        found = np.take(self._letters, codes)
        other = np.add.reduceat(found == kinds.OTHER_SCRIPT, starts, dtype=np.int64)
        self._in_script += int(np.count_nonzero(found == kinds.IN_SCRIPT))
        self._other_script += int(other.sum())
        most = int(other.argmax())
        if other[most] and "wrong_script" not in self._examples:
            place = int(np.argmax(found[starts[most] :] == kinds.OTHER_SCRIPT))
            self._note("wrong_script", texts[most], place, place + 1)

    def _count_patterns(self, texts: list[str], joined: str) -> None:
        if not unicodedata.is_normalized("NFC", joined):
            for text in texts:
                if not unicodedata.is_normalized("NFC", text):
                    self._counts["not_nfc"] += 1
                    self._examples.setdefault("not_nfc", _word_not_in_nfc(text))
        if "://" in joined or "www." in joined:
            for text in texts:
                match = URL.search(text)
                if match:
                    self._counts["urls"] += 1
                    self._note("urls", text, match.start(), match.start() + 1)
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
                self._subtokens[tokenizer] += 1
                place = text.index(mark)
                self._note("subtokens", text, place, place + 1)

    def _note(self, name: str, text: str, start: int, end: int) -> None:
        """Keep the first example of a check."""
        if name not in self._examples:
            self._examples[name] = excerpt(text, start, end)


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
