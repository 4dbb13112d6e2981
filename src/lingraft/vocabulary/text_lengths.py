"""How many bytes of UTF-8 a language needs for what English says in one byte.

The table text_lengths.tsv is made by benchmarks/text_lengths.py: from FLORES-200 (NLLB Team 2022)
for ten languages, and from the Universal Declaration of Human Rights for the others, scaled to
FLORES. For the eight languages of both, the values disagree by up to 20%, in the median by 8%. Such
"byte premiums" are measured for more languages in Arnett et al. 2024, arXiv 2403.00686.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import langcodes

from lingraft.errors import RecipeError

_TABLE = Path(__file__).with_name("text_lengths.tsv")


def relative_lengths(languages: Sequence[str]) -> list[float]:
    """Return the bytes of each language for one byte of English.

    Raises `RecipeError` that names the languages which the table does not have.

    >>> relative_lengths(["hi", "pt-PT", "zh-Hans"])
    [2.555, 1.155, 0.824]
    """
    table = _read_table()
    lengths, missing = [], []
    for language in languages:
        found = next((table[tag] for tag in _table_tags(language) if tag in table), None)
        if found is None:
            missing.append(language)
        else:
            lengths.append(found)
    if missing:
        msg = (
            f"vocabulary.balance: premium: the table of text lengths has no {', '.join(missing)}; "
            "name parallel sentences in all target languages and en with vocabulary.parallel_file"
        )
        raise RecipeError(msg)
    return lengths


def _table_tags(tag: str) -> Iterator[str]:
    """Yield the tags under which a language may be in the table, the most specific first."""
    yield tag
    if not langcodes.tag_is_valid(tag):  # text of a domain
        return
    language = langcodes.get(tag).maximize()
    usual = langcodes.get(language.language or "und").maximize()
    yield f"{language.language}-{language.script}"
    yield f"{language.language}-{language.territory}"
    # An entry without a script is text in the usual script of the language.
    if language.script == usual.script:
        yield str(language.language)
        yield f"{language.language}-{usual.territory}"


@cache
def _read_table() -> dict[str, float]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return {
            line["language"]: float(line["bytes"]) for line in csv.DictReader(file, delimiter="\t")
        }
