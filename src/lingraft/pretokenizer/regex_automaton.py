"""Glushkov's automaton of a regular expression, as bit masks of positions.

A position is one character class of the expression. A string matches a part of the expression where
there are positions p1, p2, ... whose classes hold its characters, and each position may follow the
previous one. Assertions are ignored, so the automaton accepts a superset (Glushkov 1961).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lingraft.pretokenizer.regex_syntax import (
    Alternation,
    Assertion,
    CharacterClass,
    Node,
    Repeat,
    children,
)

# Each copy of a repeated part adds its positions again, so counts above this are treated as
# unlimited. That accepts more strings, which keeps the automaton a superset.
MAX_COPIES = 8

Span = tuple[bool, int, int]
"""Whether a node matches the empty string, and masks of its first and its last positions."""


@dataclass
class Positions:
    """The class of each position, and a bit mask of the positions that may follow it."""

    classes: list[CharacterClass] = field(default_factory=list)
    follow: list[int] = field(default_factory=list)

    def add(self, node: Node) -> Span:
        """Add the positions of a node, and return its span."""
        if isinstance(node, CharacterClass):
            self.classes.append(node)
            self.follow.append(0)
            mask = 1 << (len(self.classes) - 1)
            return False, mask, mask
        if isinstance(node, Assertion):
            return True, 0, 0
        if isinstance(node, Repeat):
            return self._add_repeat(node)
        if isinstance(node, Alternation):
            may_be_empty, first, last = False, 0, 0
            for option in node.options:
                option_empty, option_first, option_last = self.add(option)
                may_be_empty = may_be_empty or option_empty
                first |= option_first
                last |= option_last
            return may_be_empty, first, last
        return self._concatenate([self.add(part) for part in node.parts])

    def _add_repeat(self, node: Repeat) -> Span:
        unlimited = node.maximum is None or node.maximum > MAX_COPIES
        required = min(node.minimum, MAX_COPIES)
        copies = max(required, 1) if unlimited else max(node.maximum or 0, 1)
        spans = []
        for number in range(copies):
            may_be_empty, first, last = self.add(node.part)
            if unlimited and number == copies - 1:
                self._connect(last, first)
            spans.append((may_be_empty or number >= required, first, last))
        return self._concatenate(spans)

    def _concatenate(self, spans: Sequence[Span]) -> Span:
        may_be_empty, first, last = True, 0, 0
        for part_empty, part_first, part_last in spans:
            self._connect(last, part_first)
            first |= part_first if may_be_empty else 0
            last = part_last | (last if part_empty else 0)
            may_be_empty = may_be_empty and part_empty
        return may_be_empty, first, last

    def _connect(self, before: int, after: int) -> None:
        for position in positions_in(before):
            self.follow[position] |= after


def positions_in(mask: int) -> Iterator[int]:
    """Yield the positions in a mask, the lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def has_assertion(node: Node) -> bool:
    """Whether a node holds an assertion."""
    if isinstance(node, Repeat):
        return has_assertion(node.part)
    return isinstance(node, Assertion) or any(map(has_assertion, children(node)))
