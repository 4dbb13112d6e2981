r"""Whether two pre-tokenizers split text without combining marks in the same way.

A changed pre-tokenizer must leave base-language text alone: its digits, contractions, line ends,
letter case, and everything else that holds no mark after a letter. Sample documents alone cannot
show that, because a rare construction is in none of them. So both pre-tokenizers split

- texts for each cause that published pre-tokenizers differ in, which names the cause, and
- all strings of up to `LENGTH` characters over one character of each kind. Characters that belong
  to the same sets of both expressions are of one kind, so the strings stand for all of Unicode.

Where every split is equal, the ids of a text are equal whatever the merges are. A mark after a
symbol, such as the variation selector of an emoji, may be split in another way: there the ids of
the base's own vocabulary are compared.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, product

import numpy as np
from tokenizers.pre_tokenizers import PreTokenizer

from lingraft.pretokenizer.mark_aware import split_patterns
from lingraft.pretokenizer.regex_automaton import Positions
from lingraft.pretokenizer.regex_syntax import CharacterClass, members, parse
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import build_backend

LENGTH = 4
"""Characters of the longest generated strings."""

MAX_KINDS = 18
"""With more kinds of characters, strings of one character less are generated."""

CAUSES = {
    "digits": ("12", "123", "1234", "12345", " 12", "a1", "1a", "1.5", "12 345", "\u0967\u0968"),
    "contractions": ("don't", "DON'T", "we'Re", "'section", "O'Reilly", "'llama", "n'T "),
    "line ends": ("\n\n", "\n\nx", "\n\n\nx", ".\n", ".\n\n", "\r\n\r\nx", "a\n b", " \n x", "x\n"),
    "spaces": ("  x", "\tx", "\t\tx", "x  ", "a   b", "\n    x", "\u00a0x", "x \t"),
    "letter case": ("aB", "ABa", "aBC", "\u00e9B"),
    "punctuation": (
        "(a",
        "(\u00e9",
        "\u2019t",
        "./",
        '."',
        '",',
        "\u201ca\u201d",
        "a_b",
        "-a",
    ),
    "Chinese, Japanese and Korean": (
        "\u5b57\u5b57",
        "a\u5b57",
        " \u5b57",
        "\ud55c\uad6d",
        "\u304b\u30ab",
    ),
}
"""Texts without marks for each cause that published pre-tokenizers differ in."""


@dataclass(frozen=True)
class SplitDifference:
    """A text that two pre-tokenizers split in different ways, and the causes that were found."""

    causes: tuple[str, ...]
    text: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def __str__(self) -> str:
        """Return the causes with the example."""
        causes = ", ".join(self.causes)
        before, after = "|".join(self.before), "|".join(self.after)
        return f"{causes}: {self.text!r} is split {before!r} by the base and {after!r} with it"


def find_split_difference(before: Family, after: Family) -> SplitDifference | None:
    """Return a text without marks that the pre-tokenizers split differently, `None` without one.

    Raises `UnknownSyntaxError` where an expression cannot be read.
    """
    steps = [json.dumps(family.data["pre_tokenizer"]) for family in (before, after)]
    return _compare_splits(*steps) or _compare_symbols(before, after)


# The comparison takes a second. It depends on two pre-tokenizers only, and few are in use.
@lru_cache(maxsize=64)
def _compare_splits(before: str, after: str) -> SplitDifference | None:
    first, second = _build(before), _build(after)
    causes, examples = [], []
    for cause, texts in CAUSES.items():
        found = next(_differences(first, second, texts), None)
        if found is not None:
            causes.append(cause)
            examples.append(found)
    if not examples:
        examples = list(islice(_differences(first, second, _generate(before, after)), 1))
        causes = ["other text"]
    return SplitDifference(tuple(causes), *examples[0]) if examples else None


def _build(step: str) -> PreTokenizer:
    model = {"type": "BPE", "vocab": {}, "merges": []}
    data = {"pre_tokenizer": json.loads(step), "model": model, "added_tokens": []}
    step_of: PreTokenizer = build_backend(data).pre_tokenizer
    return step_of


def _differences(
    first: PreTokenizer, second: PreTokenizer, texts: Iterable[str]
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield the texts that are split differently, with both splits."""
    for text in texts:
        splits = _split(first, text), _split(second, text)
        if splits[0] != splits[1]:
            yield text, *splits


def _split(pre_tokenizer: PreTokenizer, text: str) -> tuple[str, ...]:
    # The parts are bytes mapped to characters; the offsets give the parts of the text itself.
    parts = pre_tokenizer.pre_tokenize_str(text)
    return tuple(text[begin:end] for _, (begin, end) in parts)


def _generate(before: str, after: str) -> Iterator[str]:
    """Yield all short strings over one character of each kind, without marks."""
    # A step that splits digits has no expression.
    classes = {CharacterClass(r"\p{N}"): None}
    for step in (before, after):
        for expression in split_patterns({"pre_tokenizer": json.loads(step)}):
            positions = Positions()
            positions.add(parse(expression))
            classes |= dict.fromkeys(positions.classes)
    kinds = _representatives(list(classes))
    length = LENGTH if len(kinds) <= MAX_KINDS else LENGTH - 1
    for size in range(1, length + 1):
        yield from map("".join, product(kinds, repeat=size))


def _representatives(classes: Sequence[CharacterClass]) -> list[str]:
    """Return one assigned character of each kind that is no mark."""
    usable = members(CharacterClass(r"[^\p{M}\p{Cn}\p{Cs}\p{Co}]"))
    memberships = np.array([members(characters)[usable] for characters in classes])
    _, first = np.unique(memberships, axis=1, return_index=True)
    return sorted(map(chr, np.flatnonzero(usable)[first].tolist()))


def _compare_symbols(before: Family, after: Family) -> SplitDifference | None:
    """Compare the ids of symbols that a mark follows, such as an emoji's variation selector."""
    texts = _symbols_with_marks()
    for text, *pair in zip(texts, before.encode(texts), after.encode(texts), strict=True):
        if pair[0] != pair[1]:
            return SplitDifference(("emoji",), text, *[_tokens(before, ids) for ids in pair])
    return None


def _tokens(family: Family, ids: Sequence[int]) -> tuple[str, ...]:
    surfaces = family.vocabulary.surfaces
    return tuple((surfaces[token_id] or b"").decode(errors="backslashreplace") for token_id in ids)


@cache
def _symbols_with_marks() -> list[str]:
    """Return symbols, digits and punctuation with marks after them, alone and inside of text."""
    texts = []
    for point in range(0x21, 0x1FB00):
        character = chr(point)
        if unicodedata.category(character)[0] in "SPN":
            texts.append(f" {character}\ufe0f x{character}\ufe0f\u20e3\n")
    return texts
