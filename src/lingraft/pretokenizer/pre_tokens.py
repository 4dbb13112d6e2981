r"""Which byte strings a pre-tokenizer may leave whole, decided from its expression.

A token is produced only inside of one pre-token, so its bytes are a factor (a contiguous part) of a
pre-token. A pre-token is a match of the expression, or a gap between two matches where the step
keeps gaps. A string is a factor of a match where the expression's automaton accepts it from any
position to any position. A gap holds no character that the expression matches on its own.

Assertions and the order of alternatives are ignored, so the strings that are accepted are a
superset. A string that is not accepted is split in every text. An accepted string may be split in
every text, too. No text is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lingraft.pretokenizer.partial_characters import code_points, split_characters
from lingraft.pretokenizer.regex_automaton import Positions, has_assertion, positions_in
from lingraft.pretokenizer.regex_syntax import (
    CODE_POINTS,
    Alternation,
    CharacterClass,
    Node,
    UnknownSyntaxError,
    members,
    parse,
)
from lingraft.tokenizer.byte_level_bpe import pre_tokenizers
from lingraft.tokenizer.convert import GPT2_REGEX
from lingraft.tokenizer.json_format import Data

MAX_SETS = 62
"""The sets of a character are bits of one 64-bit number; published tokenizers use up to 30."""


class Factors:
    """The factors of the strings that one step lets through: matches, and gaps where it keeps them.

    Characters that belong to the same sets of the expression are of one kind. Whether a string is a
    factor depends only on the kinds of its characters.

    `matches` and `gaps` say whether the step lets the matches through, and the text between them.
    """

    def __init__(self, expression: str, *, matches: bool, gaps: bool) -> None:
        tree = parse(expression)
        positions = Positions()
        positions.add(tree)
        self.follow = positions.follow
        distinct = list(dict.fromkeys(positions.classes))
        alone = _classes_matched_alone(tree)
        if len(distinct) + len(alone) > MAX_SETS:
            msg = f"more than {MAX_SETS} sets of characters in {expression!r}"
            raise UnknownSyntaxError(msg)
        memberships = np.zeros(CODE_POINTS, dtype=np.int64)
        for number, characters in enumerate((*distinct, *alone)):
            memberships |= members(characters).astype(np.int64) << number
        # Neighbours mostly belong to the same sets, and sorting 1.1 million numbers is slow.
        starts = np.flatnonzero(np.diff(memberships, prepend=-1))
        kinds, kind_of_run = np.unique(memberships[starts], return_inverse=True)
        self.kind_of = np.repeat(kind_of_run, np.diff(starts, append=CODE_POINTS))
        numbers = [distinct.index(characters) for characters in positions.classes]
        self.masks: list[int] = []
        self.in_gap: list[bool] = []
        for membership in kinds.tolist():
            mask = 0
            for place, number in enumerate(numbers):
                mask |= (membership >> number & 1) << place
            self.masks.append(mask if matches else 0)
            # The bits above the distinct classes are those of classes that are matched alone.
            self.in_gap.append(gaps and not membership >> len(distinct))
        self._kinds_of_symbol: dict[tuple[bytes, bool], tuple[int, ...]] = {}
        self._kind_names = _KindNames(self.kind_of)
        self._whole: dict[str, bool] = {}

    def may_be_whole(self, surface: bytes) -> bool:
        """Whether bytes may be in one pre-token; otherwise the step splits them in every text."""
        try:
            # Strings of the same kinds share a result. Few of them are distinct: a vocabulary
            # takes 0.3 s instead of 6 s.
            kinds = surface.decode().translate(self._kind_names)
        except UnicodeDecodeError:
            return self.find_end(surface, 0) == len(surface)
        if kinds not in self._whole:
            self._whole[kinds] = self.find_end(surface, 0) == len(surface)
        return self._whole[kinds]

    def find_end(self, surface: bytes, begin: int) -> int:
        """Return the end of the longest part that starts at `begin` and may be in one pre-token."""
        # A factor may begin at any position: -1 has every bit set.
        states, gap, at = -1, True, begin
        for symbol, end in split_characters(surface, begin):
            reached, in_gap = 0, False
            for kind in self._kinds(symbol, is_first=at == begin):
                reached |= self.masks[kind]
                in_gap = in_gap or self.in_gap[kind]
            reached &= states
            gap = gap and in_gap
            if not reached and not gap:
                return at
            states, at = 0, end
            for place in positions_in(reached):
                states |= self.follow[place]
        return at

    def _kinds(self, symbol: bytes, *, is_first: bool) -> tuple[int, ...]:
        key = symbol, is_first
        if key not in self._kinds_of_symbol:
            points = code_points(symbol, is_first=is_first)
            self._kinds_of_symbol[key] = tuple(sorted(set(self.kind_of[points].tolist())))
        return self._kinds_of_symbol[key]


def _classes_matched_alone(tree: Node) -> list[CharacterClass]:
    """Return the classes whose characters the expression matches on their own, in any context."""
    options = tree.options if isinstance(tree, Alternation) else (tree,)
    classes: list[CharacterClass] = []
    for option in options:
        # With an assertion, the match depends on the characters around it.
        if has_assertion(option):
            continue
        positions = Positions()
        _, first, last = positions.add(option)
        classes += [positions.classes[place] for place in positions_in(first & last)]
    return list(dict.fromkeys(classes))


class _KindNames(dict[int, str]):
    """A table for `str.translate`: code point to a character that stands for its kind."""

    def __init__(self, kind_of: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.kind_of = kind_of

    def __missing__(self, point: int) -> str:
        self[point] = name = chr(int(self.kind_of[point]))
        return name


def cutting_steps(data: Data) -> list[Factors]:
    """Return the factors of each step of a pre-tokenizer that splits text in a known way.

    Raises `UnknownSyntaxError` for an expression that cannot be parsed.
    """
    steps: list[Factors] = []
    for part in pre_tokenizers(data):
        kind = part.get("type")
        if kind == "Split":
            steps += _split_factors(part)
        elif kind == "Digits":
            expression = r"\p{N}" if part.get("individual_digits") else r"\p{N}+"
            steps.append(build_factors(expression, matches=True, gaps=True))
        elif kind == "ByteLevel":
            if part.get("use_regex", True):
                steps.append(build_factors(GPT2_REGEX, matches=True, gaps=True))
            # Later steps see bytes that are mapped to characters. To leave them out is safe: they
            # may split more, and the result stays a superset.
            break
    return steps


def _split_factors(part: dict[str, Any]) -> list[Factors]:
    expression, invert = part["pattern"].get("Regex"), bool(part.get("invert"))
    if expression is None or part.get("behavior") not in {"Isolated", "Removed"}:
        return []
    removes = part["behavior"] == "Removed"
    matches, gaps = not removes or invert, not removes or not invert
    return [build_factors(expression, matches=matches, gaps=gaps)]


# To build the factors of an expression takes half a second, mostly for the members of its sets.
@lru_cache(maxsize=16)
def build_factors(expression: str, *, matches: bool, gaps: bool) -> Factors:
    """Return the factors of an expression."""
    return Factors(expression, matches=matches, gaps=gaps)


def may_be_whole(cutting: Sequence[Factors], surface: bytes) -> bool:
    """Whether every step may leave these bytes in one pre-token."""
    return all(step.may_be_whole(surface) for step in cutting)


def split_into_parts(cutting: Sequence[Factors], surface: bytes) -> list[bytes]:
    """Split bytes from left to right into the longest parts that every step may leave whole.

    >>> thai = "\u0e17\u0e35\u0e48".encode()
    >>> steps = [build_factors(GPT2_REGEX, matches=True, gaps=True)]
    >>> [part.decode() for part in split_into_parts(steps, thai)]
    ['\u0e17', '\u0e35\u0e48']
    """
    parts, at = [], 0
    while at < len(surface):
        end = min((step.find_end(surface, at) for step in cutting), default=len(surface))
        if end == at:  # not even one character is whole: keep it, so that the loop advances
            _, end = next(split_characters(surface, at))
        parts.append(surface[at:end])
        at = end
    return parts
