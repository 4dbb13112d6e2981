"""Find documents whose sentences are cut into lines, as OCR and e-mail leave them.

A line break is inside a sentence if a letter, a comma or a hyphen is before it and a letter that
does not begin a sentence is after it. Verses and lists have such breaks too, but shorter lines.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import regex

from lingraft.corpus.character_kinds import CODE_POINTS, Codes, find_code_points
from lingraft.text_units import UNSPACED_SCRIPTS, letters_in

MIN_BREAKS = 3
MIN_SHARE = 0.5
"""A document is cut if it has at least this many, and this share, of its breaks in sentences."""
MIN_LINE, MAX_LINE, MAX_RATIO = 38, 140, 1.8
"""Characters of the mean and of the longest line of a page, and how many times the mean it is.

Verses and lists have shorter lines. Headings and paragraphs on lines of their own differ more: in
scripts without case, 43% of clean Thai documents would be found without the limit on the longest.
"""
BEFORE_BREAK = (ord(" "), ord("\r"))
"""What programs leave at the end of a line."""
HYPHENS = r"\-\u2010\u00ac"
COMMAS = ",،、，"
_LINE_END = r"[ \t]*\r?\n[ \t]*"
_UNSPACED = letters_in(UNSPACED_SCRIPTS)
_HYPHEN = regex.compile(rf"(?<=\p{{Ll}})[{HYPHENS}]\r?\n[ \t]*(?=\p{{Ll}})")
_BREAK_IN_UNSPACED = regex.compile(rf"(?<={_UNSPACED}|[ー、，]){_LINE_END}(?={_UNSPACED})")
_BREAK_IN_SENTENCE = regex.compile(
    rf"(?<=[\p{{L}}\p{{M}}{COMMAS}]){_LINE_END}(?=[\p{{Ll}}\p{{Lo}}\p{{M}}])"
)


def find_cut_documents(codes: Codes, starts: Codes, breaks: Codes) -> list[tuple[int, int]]:
    """Return the number of each cut document, and the place of its first such break.

    `codes` are the code points of documents joined by line breaks, `starts` where each document
    begins, and `breaks` the places of all line breaks.
    """
    # Without the breaks between documents, and one at the very end.
    breaks = breaks[~np.isin(breaks, starts - 1, assume_unique=True)]
    breaks = breaks[(breaks > 0) & (breaks < len(codes) - 1)]
    if not breaks.size:
        return []
    before, after = _tables()
    is_space = np.isin(codes[breaks - 1], BEFORE_BREAK)
    last = np.where(is_space, codes[breaks - 2], codes[breaks - 1])
    inside = before[last] & after[codes[breaks + 1]]
    documents = np.searchsorted(starts, breaks, side="right") - 1
    total = np.bincount(documents, minlength=len(starts))
    cut = np.bincount(documents, weights=inside, minlength=len(starts))
    # A line begins with a document or after a break, and ends before the next one.
    begins = np.sort(np.concatenate([starts, breaks + 1]))
    lengths = np.diff(begins, append=len(codes) + 1) - 1
    longest = np.maximum.reduceat(lengths, np.searchsorted(begins, starts))
    mean = np.diff(starts, append=len(codes) + 1) / (total + 1)
    is_cut = (cut >= MIN_BREAKS) & (cut >= MIN_SHARE * total)
    is_cut &= (mean >= MIN_LINE) & (longest <= MAX_LINE) & (longest <= MAX_RATIO * mean)
    found = []
    for number in np.flatnonzero(is_cut).tolist():
        first = breaks[inside & (documents == number)][0]
        found.append((number, int(first - starts[number])))
    return found


@cache
def _tables() -> tuple[Codes, Codes]:
    """Return whether each code point can be before and after a break inside a sentence."""
    tables = []
    for pattern in (rf"[\p{{L}}\p{{M}}{COMMAS}{HYPHENS}]+", r"[\p{Ll}\p{Lo}\p{M}]+"):
        table = np.zeros(CODE_POINTS, dtype=bool)
        table[find_code_points(pattern)] = True
        tables.append(table)
    return tables[0], tables[1]


def join_cut_lines(text: str) -> str:
    r"""Return a document with the lines of a sentence joined, and hyphens at their ends removed.

    >>> join_cut_lines("The exam-\nple goes on\nhere, in one line.\nNew sentence.")
    'The example goes on here, in one line.\nNew sentence.'
    >>> join_cut_lines("这是一个句\n子，\n它有三行")  # scripts without spaces get none
    '这是一个句子，它有三行'
    """
    text = _BREAK_IN_UNSPACED.sub("", _HYPHEN.sub("", text))
    return _BREAK_IN_SENTENCE.sub(" ", text)
