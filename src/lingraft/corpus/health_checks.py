"""The checks of a text: what each looks for, and from where it warns and refuses.

`CHECKS` is the one table of thresholds. They are shares: of the documents, or of the letters for
`wrong_script`. Each warning threshold is above the share that the check finds in clean text in
English, Hindi, Turkish, Arabic, Tamil and Thai; comments give the shares that come near
(`benchmarks/text_health.py`). A check that refuses can be accepted by name with `allow`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lingraft.errors import CorpusError
from lingraft.formatting import percent


@dataclass(frozen=True)
class Check:
    """One check of a text.

    Attributes:
        name: its name in settings and records.
        title: what it counts, as the start of a sentence.
        warn: the share from which it warns.
        refuse: the share from which such text is refused; `None` if it never is.
        why: what goes wrong with such text.
        remedy: the setting or command that helps.
    """

    name: str
    title: str
    warn: float
    refuse: float | None
    why: str
    remedy: str


MIXED = "for text that mixes scripts on purpose, name them: scripts: [Deva, Latn]"
"""The remedy for code-switched text."""


def _strip(name: str) -> str:
    return f"set cleaning: {{strip: [{name}]}}"


CHECKS = (
    # Clean text has none. One document with NULs may be an accident, 1% are an encoding.
    Check(
        "nul",
        "NUL characters",
        0.0,
        0.01,
        "a sign of a wrong encoding, such as UTF-16 read as UTF-8 or Latin-1",
        "decode the text again: iconv -f UTF-16LE -t UTF-8",
    ),
    # Courses about programs have up to 12% of their letters in another script, English names and
    # code: 12.1% in Thai, 8.0% in Tamil. Above half, most of the text is not in the language.
    Check(
        "wrong_script",
        "letters of another script",
        0.25,
        0.5,
        "the text is of several languages or scripts",
        f"give text in the language, or a tag with the script; {MIXED}",
    ),
    # Largest share in clean text: 0.6% (Thai, 3 of 518 long documents).
    Check(
        "replacement",
        "replacement characters (U+FFFD)",
        0.01,
        0.1,
        "the characters that they stand for are lost",
        f"decode the text again from its source, or {_strip('replacement')}",
    ),
    # Largest share in clean text: 0.003% (Turkish).
    Check(
        "mojibake",
        "text decoded with the wrong encoding (mojibake)",
        0.005,
        None,
        "tokens would be learned from it",
        "set cleaning: {unmojibake: true}",
    ),
    Check(
        "not_nfc",
        "text that is not in NFC",
        0.01,
        None,
        "tokens learned from it do not match text in NFC, the usual form",
        "set cleaning: {normalise: NFC}, unless the model will only read text like this",
    ),
    Check(
        "controls",
        "control characters",
        0.01,
        None,
        "they are not text and would be learned as tokens",
        _strip("controls"),
    ),
    Check(
        "soft_hyphens",
        "soft hyphens",
        0.01,
        None,
        "they are invisible, and words with and without them get different tokens",
        _strip("soft_hyphens"),
    ),
    Check(
        "no_break_spaces",
        "no-break spaces",
        0.05,
        None,
        "words after them get other tokens than words after a space",
        _strip("no_break_spaces"),
    ),
    Check(
        "invisible",
        "invisible characters",
        0.01,
        None,
        "words with and without them get different tokens",
        _strip("invisible"),
    ),
    # Largest share in clean text: 3.1% (Arabic, embeddings that are left from web pages).
    Check(
        "bidi",
        "bidirectional controls",
        0.05,
        None,
        "they are invisible, and words next to them get different tokens",
        _strip("bidi"),
    ),
    Check(
        "markup",
        "HTML markup",
        0.02,
        None,
        "tokens would be learned from tags and attributes",
        _strip("html"),
    ),
    Check(
        "urls",
        "web addresses",
        0.2,
        None,
        "tokens would be learned from their parts",
        _strip("urls"),
    ),
    Check(
        "cut_lines",
        "sentences cut into lines, as by OCR",
        0.05,
        None,
        "line breaks and hyphens inside sentences would be learned",
        "set cleaning: {join_lines: true}",
    ),
    Check(
        "subtokens",
        "text already split into subtokens",
        0.01,
        None,
        "tokens would be learned from the subtokens",
        "use the original text, or join the words",
    ),
    Check(
        "repeated_lines",
        "lines that many documents repeat (boilerplate)",
        0.05,
        None,
        "tokens would be learned from them, and training repeats them",
        "remove them before, for example with the line filters of datatrove",
    ),
    # They are dropped before anything is learned, so that only the rest counts: with most of the
    # text gone, the corpus is smaller than its files look. Clean text has none.
    Check(
        "duplicates",
        "copies of other documents",
        0.3,
        None,
        "they are dropped, and the text is smaller than its files",
        "count on the documents that are left, or give more text",
    ),
    Check(
        "near_duplicates",
        "near-duplicates of other documents",
        0.1,
        None,
        "training repeats them, and held-out text looks easier than it is",
        "set cleaning: {near_duplicates: 0.8}, or remove them before with datatrove",
    ),
    Check(
        "other_language",
        "text that the language identifier calls another language",
        0.1,
        None,
        "the tokens would be those of several languages",
        "set language_check: true to drop such documents, or give text in the language",
    ),
)
"""All checks, in the order of reports: those that refuse first."""

BY_NAME: Mapping[str, Check] = {check.name: check for check in CHECKS}
REFUSING = tuple(check.name for check in CHECKS if check.refuse is not None)
"""The checks that `allow` can name."""


@dataclass(frozen=True)
class Finding:
    """How often a check found something, `count` of `of` units, with an escaped example.

    `level` is "", "warning" or "refused". `detail` replaces the reason and the remedy of the
    check where more is known.
    """

    check: str
    title: str
    count: int
    of: int
    unit: str
    example: str
    level: str
    detail: str

    @classmethod
    def of_check(
        cls,
        name: str,
        count: int,
        of: int,
        example: str,
        *,
        unit: str = "documents",
        detail: str = "",
    ) -> Finding:
        """Return the finding of a check, with its level by the thresholds."""
        check = BY_NAME[name]
        share, level = count / max(of, 1), ""
        if count and share >= check.warn:
            level = "warning"
        if count and check.refuse is not None and share >= check.refuse:
            level = "refused"
        detail = detail or f"{check.why}; {check.remedy}"
        return cls(name, check.title, count, of, unit, example, level, detail)

    @property
    def share(self) -> float:
        """The share of the units."""
        return self.count / max(self.of, 1)

    def __str__(self) -> str:
        """Return the sentence of a warning.

        >>> str(Finding.of_check("soft_hyphens", 12, 40, "so[U+00AD]so"))[:79]
        "soft hyphens: 12 of 40 documents (30%), such as 'so[U+00AD]so'; they are invisi"
        """
        example = f", such as {self.example!r}" if self.example else ""
        return (
            f"{self.title}: {self.count:,} of {self.of:,} {self.unit} "
            f"({percent(self.share)}){example}; {self.detail}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "share": round(self.share, 6)}


def refuse(findings: Collection[Finding], where: str, allow: Collection[str] = ()) -> None:
    """Raise `CorpusError` for the first finding that refuses the text and is not allowed."""
    for finding in findings:
        if finding.level == "refused" and finding.check not in allow:
            msg = f"{where}: {finding}; to use the text as it is, set allow: [{finding.check}]"
            raise CorpusError(msg)
