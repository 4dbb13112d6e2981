"""Documents that mention special tokens: `</s>`, `<|im_end|>`, `<0x0A>` written out in a text are text.

A corpus is plain text. Where a document spells a special token (a manual, a chat log, code), the model must read the
spelling, never the control id: training on that id would teach the model to end there. The rule is the one of
`tokenizers` and of transformers' `split_special_tokens=True`: added tokens that the tokenizer flags as *special* are
text, and so are the names of byte-fallback pieces. Added tokens without the flag (runs of spaces in GPT-NeoX,
`<tool_call>` in Qwen) belong to the text in the base, and are read as the base reads them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

BYTE_NAME = r"<0x[0-9A-F]{2}>"
"""How vocabularies with byte fallback name the piece of a byte."""

NOT_IN_TEXT = "\ufdd0"
"""A noncharacter, which Unicode keeps out of text: a piece that begins with it is reached by no text."""


@dataclass(frozen=True)
class SpecialText:
    """The spellings of a tokenizer's special tokens, and what to do where a text holds one."""

    contents: tuple[str, ...]
    has_byte_names: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """What matches any spelling, the longest first; `None` where there is no special token."""
        parts = [_any_of({content for content in self.contents if content})]
        if self.has_byte_names:
            parts.append(BYTE_NAME)
        known = [part for part in parts if part]
        return re.compile("|".join(known)) if known else None

    def mentions(self, text: str) -> list[str]:
        """Return the special tokens that a text spells, in order.

        >>> SpecialText(("<s>", "</s>")).mentions("between <s> and </s>")
        ['<s>', '</s>']
        """
        return self.pattern.findall(text) if self.pattern else []

    def count(self, texts: Iterable[str]) -> Counter[str]:
        """Count the special tokens that texts spell."""
        found: Counter[str] = Counter()
        for text in texts:
            found.update(self.mentions(text))
        return found

    def as_pieces(self, piece_of: Callable[[str], str]) -> SpecialText:
        """Return the spellings as a tokenizer's model sees them: bytes mapped to characters, spaces to "▁"."""
        return SpecialText(
            tuple(sorted({piece_of(content) for content in self.contents})), self.has_byte_names
        )

    def split(self, text: str) -> list[str]:
        """Return what lies between the spellings, empty stretches left out.

        >>> SpecialText(("</s>",)).split("ends</s>here")
        ['ends', 'here']
        """
        parts = self.pattern.split(text) if self.pattern else [text]
        return [part for part in parts if part]


def _any_of(contents: set[str]) -> str:
    """Return an expression for the longest of some strings, as a tree of their characters.

    Python tries the alternatives of a list one by one. With the 1,000 special tokens of
    Mistral-Nemo, a tree reads Hindi at 40 MB/s where a list reads 14, and code at 193 where a list
    reads 2 (one look).

    >>> _any_of({"<s>", "<sep>", "</s>"})
    '<(?:/s>|s(?:>|ep>))'
    """
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


def remove_special_text(spelled: SpecialText, units: Counter[str]) -> Counter[str]:
    """Cut the spellings of special tokens out of counted units, so that no new token can hold one.

    >>> units = remove_special_text(SpecialText(("</s>",)), Counter({"▁closes</s>.": 3}))
    >>> sorted(units.items())
    [('.', 3), ('▁closes', 3)]
    """
    holding = [unit for unit in units if spelled.mentions(unit)]
    for unit in holding:
        count = units.pop(unit)
        for stretch in spelled.split(unit):
            units[stretch] += count
    return units


def unspellable_name(piece: str, token_id: int) -> str:
    """Return another name for a piece, which no text can spell."""
    return f"{NOT_IN_TEXT}{token_id}{NOT_IN_TEXT}{piece}"


def most_frequent_first(mentions: Mapping[str, int]) -> dict[str, int]:
    """Return counts for a manifest, most frequent first."""
    return dict(sorted(mentions.items(), key=lambda item: (-item[1], item[0])))


def describe_mentions(mentions: Mapping[str, int]) -> str:
    """Return one sentence for people.

    >>> describe_mentions({"</s>": 300, "<s>": 2})
    'the text spells special tokens 302 times (</s> 300, <s> 2); they are read as text, never as control tokens'
    """
    ordered = most_frequent_first(mentions)
    shown = ", ".join(f"{content} {count:,}" for content, count in list(ordered.items())[:4])
    more = f" and {len(ordered) - 4} others" if len(ordered) > 4 else ""
    total = sum(ordered.values())
    return (
        f"the text spells special tokens {total:,} time{'s' if total > 1 else ''} ({shown}{more}); they are read "
        "as text, never as control tokens"
    )
