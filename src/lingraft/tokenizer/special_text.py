"""Texts that spell special tokens (`</s>`, `<|im_end|>`, `<0x0A>`), which are read as text.

A corpus is plain text. Where a document spells a special token (a manual, a chat log, code), the
model must read the spelling, not the control id: training on that id would teach the model to end
there.

The rule is the one of `tokenizers` and of transformers' `split_special_tokens=True`. Added tokens
with the flag *special* are text, and so are the names of byte-fallback pieces. Other added tokens
(runs of spaces in GPT-NeoX, `<tool_call>` in Qwen) are read as the base reads them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

BYTE_NAME = r"<0x[0-9A-F]{2}>"
"""The names of byte pieces in vocabularies with byte fallback, as a regular expression."""

# A Unicode noncharacter, which no text contains: no text spells a name that begins with it.
NOT_IN_TEXT = "\ufdd0"

_SHOWN = 4


@dataclass(frozen=True)
class SpecialText:
    """The spellings of special tokens, and how to find them in a text."""

    contents: tuple[str, ...]
    has_byte_names: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """A pattern for every spelling, the longest first; `None` without special tokens."""
        parts = [_any_of(set(filter(None, self.contents)))]
        if self.has_byte_names:
            parts.append(BYTE_NAME)
        pattern = "|".join(filter(None, parts))
        return re.compile(pattern) if pattern else None

    def mentions(self, text: str) -> list[str]:
        """Return the special tokens that a text spells, in order.

        >>> SpecialText(("<s>", "</s>")).mentions("between <s> and </s>")
        ['<s>', '</s>']
        """
        return self.pattern.findall(text) if self.pattern else []

    def count(self, texts: Iterable[str]) -> Counter[str]:
        """Count the special tokens that texts spell."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.mentions(text))
        return counts

    def as_pieces(self, piece_of: Callable[[str], str]) -> SpecialText:
        """Return the spellings as a tokenizer's model sees them, mapped by `piece_of`."""
        pieces = tuple(sorted(set(map(piece_of, self.contents))))
        return SpecialText(pieces, self.has_byte_names)

    def split(self, text: str) -> list[str]:
        """Return the parts between the spellings, without empty parts.

        >>> SpecialText(("</s>",)).split("ends</s>here")
        ['ends', 'here']
        """
        parts = self.pattern.split(text) if self.pattern else [text]
        return list(filter(None, parts))


def _any_of(contents: set[str]) -> str:
    """Return a pattern for the longest of some strings, as a tree of their characters.

    >>> _any_of({"<s>", "<sep>", "</s>"})
    '<(?:/s>|s(?:>|ep>))'
    """
    # Python tries the alternatives of a list one by one. With the 1,000 special tokens of
    # Mistral-Nemo, a tree reads Hindi at 40 MB/s instead of 14, and code at 193 MB/s instead of 2
    # (one run).
    if not contents:
        return ""
    if len(contents) == 1:
        return re.escape(next(iter(contents)))
    heads: dict[str, set[str]] = {}
    for content in sorted(contents):
        if content:
            heads.setdefault(content[0], set()).add(content[1:])
    parts = [re.escape(head) + _any_of(tails) for head, tails in heads.items()]
    tree = parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
    return f"(?:{tree})?" if "" in contents else tree


def remove_special_text(spellings: SpecialText, units: Counter[str]) -> Counter[str]:
    """Remove the spellings of special tokens from counted units, so that no new token holds one.

    >>> units = remove_special_text(SpecialText(("</s>",)), Counter({"▁closes</s>.": 3}))
    >>> sorted(units.items())
    [('.', 3), ('▁closes', 3)]
    """
    for unit in list(filter(spellings.mentions, units)):
        count = units.pop(unit)
        for part in spellings.split(unit):
            units[part] += count
    return units


def unspellable_name(piece: str, token_id: int) -> str:
    """Return a name for a piece that no text spells."""
    return f"{NOT_IN_TEXT}{token_id}{NOT_IN_TEXT}{piece}"


def most_frequent_first(mentions: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of spellings for a manifest, the most frequent first."""
    return dict(sorted(mentions.items(), key=lambda item: (-item[1], item[0])))


def describe_mentions(mentions: Mapping[str, int]) -> str:
    """Return the counts of spellings as one sentence.

    >>> describe_mentions({"</s>": 300, "<s>": 2}).partition(";")[0]
    'the text spells special tokens 302 times (</s> 300, <s> 2)'
    """
    ordered = list(most_frequent_first(mentions).items())
    counts = []
    for content, count in ordered[:_SHOWN]:
        counts.append(f"{content} {count:,}")
    shown = ", ".join(counts)
    more = f" and {len(ordered) - _SHOWN} others" if len(ordered) > _SHOWN else ""
    total = sum(mentions.values())
    times = f"{total:,} time{'s' if total > 1 else ''}"
    return (
        f"the text spells special tokens {times} ({shown}{more}); they are read as text, never as "
        "control tokens"
    )
