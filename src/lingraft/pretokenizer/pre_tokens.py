r"""Which byte strings a pre-tokenizer can leave whole: an exact test on its expressions, not a sample of text.

A token is produced only inside of one pre-token, so its bytes are a factor (a contiguous part) of a pre-token. A
pre-token is a match of the expression, or, where a step keeps what the expression does not match, a gap between two
matches. Both are tested on the positions of the expression (Glushkov's automaton): a string is a factor of a match if
there are positions p1, p2, ... whose sets hold its characters and of which each may follow the one before. No character
of a gap may be one that the expression matches on its own. Assertions, and the order in which alternatives are tried,
are ignored, so the strings found whole are a superset: "always cut" is certain, "may be whole" need not be.

Bytes that are a part of a character stand for every character that begins or ends with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from lingraft.pretokenizer.regex_syntax import (
    CODE_POINTS,
    Alternation,
    Assertion,
    CharacterClass,
    Node,
    Repeat,
    UnknownSyntaxError,
    children,
    members,
    parse,
)
from lingraft.tokenizer.byte_level_bpe import pre_tokenizers
from lingraft.tokenizer.convert import GPT2_REGEX
from lingraft.tokenizer.json_format import Data

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_COPIES = 8
"""A part that may be repeated more often than this counts as repeatable without limit, which allows more strings."""

MOST_SETS = 62
"""A signature of sets is one number of 64 bits; the expressions of published tokenizers have up to 30 sets."""

MOST_TEXTS = 4096

Symbol = tuple[int, ...]
"""What a stretch of bytes may be: the classes of characters (see `Factors.class_of`) that it may stand for."""


@dataclass
class _Positions:
    """Glushkov's automaton: the set of each position, and a bit mask of the positions that may follow it."""

    sets: list[CharacterClass] = field(default_factory=list)
    follow: list[int] = field(default_factory=list)

    def add(self, node: Node) -> tuple[bool, int, int]:
        """Add the positions of a node; return whether it may be empty, and masks of its first and last positions."""
        if isinstance(node, CharacterClass):
            self.sets.append(node)
            self.follow.append(0)
            mask = 1 << (len(self.sets) - 1)
            return False, mask, mask
        if isinstance(node, Assertion):
            return True, 0, 0
        if isinstance(node, Repeat):
            return self._repeated(node)
        if isinstance(node, Alternation):
            found = [self.add(option) for option in node.options]
            empty = any(one[0] for one in found)
            return empty, _union(one[1] for one in found), _union(one[2] for one in found)
        return self._joined([self.add(part) for part in node.parts])

    def _repeated(self, node: Repeat) -> tuple[bool, int, int]:
        endless = node.most is None or node.most > MOST_COPIES
        least = min(node.least, MOST_COPIES)
        copies = max(least, 1) if endless else max(node.most or 0, 1)
        found = []
        for number in range(copies):
            empty, first, last = self.add(node.part)
            if endless and number == copies - 1:
                self._connect(last, first)
            found.append((empty or number >= least, first, last))
        return self._joined(found)

    def _joined(self, parts: Sequence[tuple[bool, int, int]]) -> tuple[bool, int, int]:
        empty, first, last = True, 0, 0
        for part_empty, part_first, part_last in parts:
            self._connect(last, part_first)
            first |= part_first if empty else 0
            last = part_last | (last if part_empty else 0)
            empty = empty and part_empty
        return empty, first, last

    def _connect(self, before: int, after: int) -> None:
        for position in _bits(before):
            self.follow[position] |= after


def _union(masks: Iterator[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _asserts(node: Node) -> bool:
    if isinstance(node, Repeat):
        return _asserts(node.part)
    return isinstance(node, Assertion) or any(_asserts(child) for child in children(node))


class Factors:
    """The factors of what one step lets through: matches of the expression, and gaps where they are kept.

    Characters that belong to the same sets of the expression are of one class; strings are tested by their classes.
    """

    def __init__(self, expression: str, *, matches: bool, gaps: bool) -> None:
        import numpy as np

        tree = parse(expression)
        positions = _Positions()
        positions.add(tree)
        self.follow = positions.follow
        distinct = list(dict.fromkeys(positions.sets))
        alone = self._matched_alone(tree)
        if len(distinct) + len(alone) > MOST_SETS:
            msg = f"more than {MOST_SETS} sets of characters in {expression!r}"
            raise UnknownSyntaxError(msg)
        bits = np.zeros(CODE_POINTS, dtype=np.int64)
        for number, characters in enumerate((*distinct, *alone)):
            bits |= members(characters).astype(np.int64) << number
        found, self.class_of = np.unique(bits, return_inverse=True)
        self.masks: list[int] = []
        self.in_gap: list[bool] = []
        for signature in found.tolist():
            held = {
                characters for number, characters in enumerate(distinct) if signature >> number & 1
            }
            mask = _union(1 << place for place, own in enumerate(positions.sets) if own in held)
            self.masks.append(mask if matches else 0)
            self.in_gap.append(gaps and not signature >> len(distinct))
        self._classes_of: dict[tuple[bytes, bool], Symbol] = {}
        self._kinds = _Kinds(self.class_of)
        self._known: dict[str, bool] = {}

    @staticmethod
    def _matched_alone(tree: Node) -> list[CharacterClass]:
        """Return the sets of which the expression matches every single character, whatever stands around it."""
        options = tree.options if isinstance(tree, Alternation) else (tree,)
        found: list[CharacterClass] = []
        for option in options:
            if _asserts(option):
                continue
            positions = _Positions()
            _, first, last = positions.add(option)
            found += [positions.sets[place] for place in _bits(first & last)]
        return list(dict.fromkeys(found))

    def whole(self, surface: bytes) -> bool:
        """Say whether bytes may stand in one pre-token; where not, the step cuts them in every text."""
        try:
            kinds = surface.decode().translate(
                self._kinds
            )  # few distinct ones: a vocabulary takes 0.3 s, not 6 s
        except UnicodeDecodeError:
            return self.longest(surface, 0) == len(surface)
        if kinds not in self._known:
            self._known[kinds] = self.longest(surface, 0) == len(surface)
        return self._known[kinds]

    def longest(self, surface: bytes, begin: int) -> int:
        """Return the end of the longest part from `begin` on that may stand in one pre-token."""
        states, gap, at = -1, True, begin
        for symbol, end in _symbols(surface, begin):
            reached, in_gap = 0, False
            for kind in self._classes(symbol, is_first=at == begin):
                reached |= self.masks[kind]
                in_gap = in_gap or self.in_gap[kind]
            reached &= states
            gap = gap and in_gap
            if not reached and not gap:
                return at
            states, at = _union(self.follow[place] for place in _bits(reached)), end
        return at

    def _classes(self, symbol: bytes, *, is_first: bool) -> Symbol:
        key = symbol, is_first
        if key not in self._classes_of:
            points = _points(symbol, is_first=is_first)
            self._classes_of[key] = tuple(sorted(set(self.class_of[points].tolist())))
        return self._classes_of[key]


class _Kinds(dict[int, str]):
    """Code point -> a character that stands for its class."""

    def __init__(self, class_of: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.class_of = class_of

    def __missing__(self, point: int) -> str:
        self[point] = kind = chr(int(self.class_of[point]))
        return kind


def _symbols(surface: bytes, begin: int) -> Iterator[tuple[bytes, int]]:
    """Yield the characters of a surface, and parts of characters at its ends, each with the place where it ends."""
    at = begin
    while at < len(surface):
        end = at + 1
        while (
            end < len(surface) and 0x80 <= surface[end] < 0xC0 and end - at < _length(surface[at])
        ):
            end += 1
        if 0x80 <= surface[at] < 0xC0:
            while end < len(surface) and 0x80 <= surface[end] < 0xC0:
                end += 1
        yield surface[at:end], end
        at = end


def _length(lead: int) -> int:
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


@lru_cache(maxsize=65536)
def _points(symbol: bytes, *, is_first: bool) -> npt.NDArray[np.int64]:
    """Return the code points that a symbol may stand for: itself, or all that it is the beginning or the end of.

    Bytes that are no part of UTF-8 stand for none.
    """
    import numpy as np

    try:
        return np.array([ord(symbol.decode())], dtype=np.int64)
    except (UnicodeDecodeError, TypeError):
        pass
    if 0x80 <= symbol[0] < 0xC0:
        return _ending_with(symbol) if is_first and len(symbol) < 4 else np.empty(0, dtype=np.int64)
    return _beginning_with(symbol)


def _beginning_with(symbol: bytes) -> npt.NDArray[np.int64]:
    import numpy as np

    length = _length(symbol[0])
    low = symbol + b"\x80" * (length - len(symbol))
    first = _point(low)
    count = 64 ** (length - len(symbol))
    points = np.arange(first, first + count)
    smallest = (0, 0, 0x80, 0x800, 0x10000)[length]
    return points[(points >= smallest) & (points < CODE_POINTS)]


def _point(encoded: bytes) -> int:
    """Return the number that the bits of an encoded character spell, whether there is such a character or not."""
    value = encoded[0] & (0x7F if len(encoded) == 1 else 0xFF >> (len(encoded) + 1))
    for byte in encoded[1:]:
        value = value << 6 | byte & 0x3F
    return value


def _ending_with(symbol: bytes) -> npt.NDArray[np.int64]:
    import numpy as np

    bits = 6 * len(symbol)
    value = 0
    for byte in symbol:
        value = value << 6 | byte & 0x3F
    smallest = 0x80 if len(symbol) == 1 else 0x800 if len(symbol) == 2 else 0x10000
    points = np.arange(value, CODE_POINTS, 1 << bits)
    return points[points >= smallest]


def cutting_steps(data: Data) -> list[Factors]:
    """Return what each cutting step of a pre-tokenizer lets through, as far as it is known here.

    Steps of another kind, and those after the bytes were mapped to characters, are left out: they may cut further.
    Raises `UnknownSyntaxError` for an expression that is not read.
    """
    found: list[Factors] = []
    for part in pre_tokenizers(data):
        kind = part.get("type")
        if kind == "Split":
            found += _split(part)
        elif kind == "Digits":
            found.append(
                build_factors(
                    r"\p{N}" if part.get("individual_digits") else r"\p{N}+",
                    matches=True,
                    gaps=True,
                )
            )
        elif kind == "ByteLevel":
            if part.get("use_regex", True):
                found.append(build_factors(GPT2_REGEX, matches=True, gaps=True))
            break
    return found


def _split(part: dict[str, Any]) -> list[Factors]:
    pattern, invert = part["pattern"], bool(part.get("invert"))
    expression = pattern.get("Regex")
    if expression is None or part.get("behavior") not in {"Isolated", "Removed"}:
        return []
    removes = part["behavior"] == "Removed"
    return [
        build_factors(expression, matches=not removes or invert, gaps=not removes or not invert)
    ]


@lru_cache(maxsize=16)
def build_factors(expression: str, *, matches: bool, gaps: bool) -> Factors:
    """Return the factors of an expression; to build them takes half a second."""
    return Factors(expression, matches=matches, gaps=gaps)


def may_be_whole(cutting: Sequence[Factors], surface: bytes) -> bool:
    """Say whether every step may leave these bytes in one pre-token."""
    return all(step.whole(surface) for step in cutting)


def split_into_parts(cutting: Sequence[Factors], surface: bytes) -> list[bytes]:
    """Cut bytes into the longest parts, from left to right, that every step may leave whole.

    >>> thai = "\u0e17\u0e35\u0e48".encode()
    >>> [part.decode() for part in split_into_parts([build_factors(GPT2_REGEX, matches=True, gaps=True)], thai)]
    ['\u0e17', '\u0e35\u0e48']
    """
    found, at = [], 0
    while at < len(surface):
        end = min((step.longest(surface, at) for step in cutting), default=len(surface))
        end = end if end > at else next(end for _, end in _symbols(surface, at))
        found.append(surface[at:end])
        at = end
    return found


def completions(surface: bytes) -> list[str]:
    """Return texts that hold these bytes: themselves, or up to `MOST_TEXTS` ways to complete characters at their ends.

    >>> completions(b"ab")
    ['ab', ' ab', 'ab ']
    >>> len(completions("\u0627".encode() + bytes([0xD9])))
    64
    """
    with suppress(UnicodeDecodeError):
        text = surface.decode()
        return [text, f" {text}", f"{text} "]
    symbols = [symbol for symbol, _ in _symbols(surface, 0)]
    choices = [_points(symbol, is_first=place == 0) for place, symbol in enumerate(symbols)]
    several = sum(len(points) > 1 for points in choices)
    each = round(MOST_TEXTS ** (1 / max(several, 1)))
    found = product(*(points[:each].tolist() for points in choices))
    return [
        "".join(map(chr, points))
        for points in found
        if not any(0xD800 <= point < 0xE000 for point in points)
    ]
