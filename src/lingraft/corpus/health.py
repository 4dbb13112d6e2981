"""The health of a text: what is in it besides plain text in its language.

Most checks count documents (`TextCounts`). Those that are slow (the language, near-duplicates,
repeated lines) read a random sample of the documents. The text is not changed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lingraft.corpus.excerpts import EXCERPT
from lingraft.corpus.health_checks import CHECKS, MIXED, Finding
from lingraft.corpus.health_sample import SAMPLE_DOCUMENTS, sample_findings
from lingraft.corpus.script_check import (
    MIN_LETTERS,
    WrongScript,
    describe_scripts,
    find_wrong_script,
)
from lingraft.corpus.text_counts import COUNTED, MARKS, TextCounts, plain_text
from lingraft.formatting import join_words

LONGEST = 4_000_000
"""Characters of a document that are looked at: of one of 17 MB, the counts took 200 MB."""


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
        self._counts = TextCounts(language, scripts)
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
        self._counts.add(text)
        if len(self._sample) < SAMPLE_DOCUMENTS:
            self._sample.append(text)
        else:  # reservoir sampling: every document is in the sample with the same probability
            place = int(self._random.random() * self.documents)
            if place < SAMPLE_DOCUMENTS:
                self._sample[place] = text

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
        self._counts.note("duplicates", text, 0, min(len(text), EXCERPT))

    def report(self) -> HealthReport:
        """Return the findings of all documents so far."""
        self._counts.finish()
        findings = {name: self._finding(name) for name in COUNTED}
        # All text in another script, of tags or of mojibake would be called another language, too.
        causes = [findings[name] for name in ("mojibake", "markup") if findings[name].level]
        wrong = None
        if self._counts.counts_letters:
            plain = list(filter(None, map(plain_text, self._sample)))
            wrong = find_wrong_script(self.language, plain, self.scripts)
            findings["wrong_script"] = self._script_finding(wrong)
        # An identifier takes text in two languages for one of them.
        identify = self._identify and not (wrong or causes or self.scripts)
        read = self.documents + self._duplicates
        example = self._counts.examples.get("duplicates", "")
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
        example = self._counts.examples.get(name, "")
        return Finding.of_check(name, self._counts.documents[name], self.documents, example)

    def _script_finding(self, wrong: WrongScript | None) -> Finding:
        counts = self._counts
        letters = counts.in_script + counts.other_script
        return Finding.of_check(
            "wrong_script",
            # Of a few letters, a name in another script is a large share.
            counts.other_script if letters >= MIN_LETTERS else 0,
            letters,
            counts.examples.get("wrong_script", ""),
            unit="letters",
            detail=f"most letters are {wrong.remedy}; {MIXED}" if wrong else "",
        )

    def _subtoken_finding(self) -> Finding:
        found = self._counts.subtokens
        tokenizers = [f"{name} ({MARKS[name][0]!r})" for name in found]
        detail = ""
        if tokenizers:
            _, _, command = MARKS[next(iter(found))]
            detail = (
                f"by {join_words(tokenizers)}, and tokens would be learned from the subtokens; use "
                f"the original text, or join the words: {command}"
            )
        count = min(found.total(), self.documents)
        example = self._counts.examples.get("subtokens", "")
        return Finding.of_check("subtokens", count, self.documents, example, detail=detail)
