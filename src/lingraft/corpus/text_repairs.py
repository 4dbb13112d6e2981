"""Repair documents as the `cleaning` settings ask, and count every change.

The repairs run in this order: mojibake, HTML, other characters and addresses, lines, normal form.
The same repairs apply to training text and held-out text, before documents are filtered.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import regex
from pydantic import BeforeValidator, Field

from lingraft.corpus import character_kinds as kinds
from lingraft.corpus.chat import Conversation
from lingraft.corpus.cut_lines import join_cut_lines
from lingraft.corpus.markup import strip_html
from lingraft.corpus.mojibake import repair_mojibake
from lingraft.corpus.script_check import is_unspaced
from lingraft.corpus.text_counts import URL
from lingraft.registry import Settings

Stripped = Literal[
    "html",
    "urls",
    "controls",
    "soft_hyphens",
    "no_break_spaces",
    "invisible",
    "bidi",
    "replacement",
]
Form = Annotated[
    Literal["NFC", "NFKC"],
    BeforeValidator(lambda form: form.upper() if isinstance(form, str) else form),
]


class Cleaning(Settings):
    """Repairs of the text of a corpus; each change is counted in the manifest and the report."""

    normalise: Form | None = Field(
        default=None,
        description="convert the text to this Unicode normal form; by default it stays as read",
    )
    unmojibake: bool = Field(
        default=False,
        description="decode text again that was read with the wrong encoding, such as UTF-8 as "
        "Latin-1 (by ftfy)",
    )
    strip: tuple[Stripped, ...] = Field(
        default=(),
        description="remove html (tags, scripts, references), urls, controls, soft_hyphens, "
        "invisible characters, bidi controls, replacement characters; no_break_spaces become "
        "spaces",
    )
    join_lines: bool = Field(
        default=False,
        description="join lines that end inside a sentence, and words with a hyphen at the line "
        "end, as OCR leaves them",
    )
    near_duplicates: float | None = Field(
        default=None,
        ge=0.5,
        le=1,
        description="drop documents that share at least this part of their runs of five words with "
        "an earlier document, such as 0.8 (needs the extra `near-duplicates`)",
    )


_INVISIBLES = f"{kinds.INVISIBLES}\U000e0001-\U000e007f"
Pattern = re.Pattern[str] | regex.Pattern[str]
_CHARACTERS: dict[str, tuple[Pattern, str]] = {
    "urls": (URL, ""),
    "controls": (re.compile(rf"[\0{kinds.CONTROLS}]"), ""),
    "soft_hyphens": (re.compile("\u00ad"), ""),
    "no_break_spaces": (re.compile(f"[{kinds.NO_BREAK_SPACES}]"), " "),
    "invisible": (re.compile(f"[{_INVISIBLES}{kinds.ZERO_WIDTH_SPACE}]"), ""),
    "bidi": (re.compile(f"[{kinds.BIDI_CONTROLS}]"), ""),
    "replacement": (re.compile("\ufffd"), ""),
}


class TextRepairs:
    """The repairs of a corpus; `counts` has the changed documents and the changes of each.

    `scripts` are those that the text is written in, if not only in the one of the language.
    """

    def __init__(self, settings: Cleaning, language: str, scripts: tuple[str, ...] = ()) -> None:
        self.documents: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self._steps: list[tuple[str, Callable[[str], tuple[str, int]]]] = []
        if settings.unmojibake:
            self._steps.append(("mojibake", _counting_words(repair_mojibake)))
        if "html" in settings.strip:
            self._steps.append(("html", strip_html))
        for name, (pattern, replacement) in _CHARACTERS.items():
            if name not in settings.strip:
                continue
            if name == "invisible" and is_unspaced(language, scripts):
                pattern = re.compile(f"[{_INVISIBLES}]")  # noqa: PLW2901
            self._steps.append((name, _substitution(pattern, replacement)))
        if settings.join_lines:
            self._steps.append(("joined lines", _counting_lines(join_cut_lines)))
        form = settings.normalise
        if form is not None:
            self._steps.append((form, _counting_words(lambda t: unicodedata.normalize(form, t))))

    def repair(self, text: str) -> str:
        """Return a document, or a conversation message by message, after all repairs."""
        if not self._steps or not text:
            return text
        changed: Counter[str] = Counter()
        if isinstance(text, Conversation):
            messages = []
            for message in text.messages:
                content = self._repair(message["content"], changed)
                messages.append({**message, "content": content})
            repaired: str = Conversation.of(messages)
        else:
            repaired = self._repair(text, changed)
        if changed:
            self.documents.update(changed.keys())
            self.changes.update(changed)
        return repaired

    def _repair(self, text: str, changed: Counter[str]) -> str:
        """Return a text after all repairs, and add the changes to `changed`."""
        for name, step in self._steps:
            text, changes = step(text)
            if changes:
                changed[name] += changes
        return text

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the changed documents and the changes by repair, as plain JSON."""
        counts = {}
        for name, _ in self._steps:
            counts[name] = {"documents": self.documents[name], "changes": self.changes[name]}
        return counts


def add_counts(*counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return the sums of several counts of changes."""
    sums: dict[str, Counter[str]] = {}
    for part in counts:
        for name, numbers in part.items():
            sums.setdefault(name, Counter()).update(numbers)
    return {name: dict(numbers) for name, numbers in sums.items()}


def _substitution(pattern: Pattern, replacement: str) -> Callable[[str], tuple[str, int]]:
    return lambda text: pattern.subn(replacement, text)


def _counting_words(repair: Callable[[str], str]) -> Callable[[str], tuple[str, int]]:
    """Count the words that a repair changes."""

    def counted(text: str) -> tuple[str, int]:
        repaired = repair(text)
        if repaired == text:
            return text, 0
        before, after = Counter(text.split()), Counter(repaired.split())
        return repaired, max((before - after).total(), 1)

    return counted


def _counting_lines(repair: Callable[[str], str]) -> Callable[[str], tuple[str, int]]:
    def counted(text: str) -> tuple[str, int]:
        repaired = repair(text)
        return repaired, text.count("\n") - repaired.count("\n")

    return counted
