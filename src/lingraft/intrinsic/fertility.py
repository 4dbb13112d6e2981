"""Fertility: into how many tokens a tokenizer cuts words, bytes and documents.

A word is a segment between Unicode's default word boundaries (UAX #29) that holds a letter or a number, so that
punctuation is no word and a suffix after an apostrophe is none of its own. Scripts that are written without spaces
(Thai, Lao, Khmer, Burmese, Han, kana) have no word boundaries by rule: tokens per word say nothing there, the row's
note says so, and characters per token is the number to read.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from lingraft.families import ModelTokenizer
from lingraft.intrinsic.rows import ratio_row
from lingraft.intrinsic.settings import BootstrapSettings
from lingraft.measurement import Measurement

BOUNDARY = regex.compile(r"\b", regex.VERSION1 | regex.WORD)
WORD_SIGN = regex.compile(r"[\p{L}\p{N}]")
UNSPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}]")


def words_in(text: str) -> int:
    """Count the words of a text.

    >>> words_in("Don't stop: 3.14 कहानियाँ!")
    4
    """
    return sum(1 for segment in BOUNDARY.split(text) if WORD_SIGN.search(segment))


def is_unspaced(documents: Sequence[str]) -> bool:
    """Say whether most letters are of a script without spaces, judged by the first 100 documents."""
    sample = "".join(document[:1000] for document in documents[:100])
    letters = len(WORD_SIGN.findall(sample))
    return letters > 0 and len(UNSPACED.findall(sample)) > letters / 2


def fertility(tokenizer: ModelTokenizer, documents: Sequence[str], language: str, subject: str, *,
              bootstrap: BootstrapSettings | None = None) -> list[Measurement]:
    """Measure tokens per word, byte and document, and characters per token, each with an interval over documents."""
    bootstrap = bootstrap or BootstrapSettings()
    tokens = [len(ids) for ids in tokenizer.ids(documents)]
    note = "a script without spaces: read characters per token instead" if is_unspaced(documents) else ""
    ratios = (
        ("tokens per word", "tokens/word", tokens, [words_in(text) for text in documents], note),
        ("tokens per byte", "tokens/byte", tokens, [len(text.encode()) for text in documents], ""),
        ("tokens per document", "tokens/document", tokens, [1] * len(documents), ""),
        ("characters per token", "characters/token", [len(text) for text in documents], tokens, ""),
    )
    rows = [ratio_row(metric, unit, top, bottom, subject=subject, language=language, bootstrap=bootstrap, note=remark)
            for metric, unit, top, bottom, remark in ratios]
    return [row for row in rows if row is not None]


def share_identical(tokenizer: ModelTokenizer, reference: ModelTokenizer, documents: Sequence[str], language: str,
                    subject: str, *, bootstrap: BootstrapSettings | None = None) -> list[Measurement]:
    """Measure the share of documents that both tokenizers turn into the same ids."""
    same = [float(a == b) for a, b in zip(tokenizer.ids(documents), reference.ids(documents), strict=True)]
    row = ratio_row("documents tokenised identically", "share", same, [1] * len(same), subject=subject,
                    language=language, bootstrap=bootstrap or BootstrapSettings())
    return [row] if row else []
