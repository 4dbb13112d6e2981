"""Degenerate repetition: how much of a written text says again what it said.

The measure is seq-rep-4 (Welleck et al. 2020, arXiv 1908.04319): 1 - distinct 4-grams / all 4-grams of a continuation.
There the units are tokens; here they are words, and characters in scripts without spaces, so that models with
different vocabularies can be compared. A text of fewer than four units has no 4-gram and no say.
"""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.intrinsic.rows import ratio_row
from lingraft.intrinsic.settings import BootstrapSettings
from lingraft.intrinsic.words import words_of
from lingraft.measurement import Measurement

LENGTH = 4


def repeated(units: Sequence[str]) -> tuple[int, int]:
    """Return how many 4-grams repeat an earlier one, and how many there are.

    >>> repeated("a b c d a b c d".split()), repeated("a b c".split())
    ((1, 5), (0, 0))
    """
    grams = [tuple(units[begin:begin + LENGTH]) for begin in range(len(units) - LENGTH + 1)]
    return len(grams) - len(set(grams)), len(grams)


def repetition(texts: Sequence[str], language: str, subject: str, bootstrap: BootstrapSettings, *,
               unspaced: bool = False) -> list[Measurement]:
    """Measure the share of repeated 4-grams, with an interval over texts."""
    counts = [repeated([*text] if unspaced else words_of(text)) for text in texts]
    row = ratio_row("repetition", "share", [again for again, _ in counts], [total for _, total in counts],
                    subject=subject, language=language, bootstrap=bootstrap, per="sample", split="generated",
                    note=f"repeated 4-grams of {'characters' if unspaced else 'words'}, greedy")
    return [row] if row else []
