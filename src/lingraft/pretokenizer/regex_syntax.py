r"""Parsing the regular expressions of pre-tokenizers, to reason about what they can match.

The parser reads the subset that published tokenizers use: alternation, groups, character classes,
quantifiers and assertions. Assertions (lookahead, lookbehind, anchors) become nodes that match no
character, so a tree describes a superset of the strings that the expression matches. Other syntax
(back references, conditionals) raises `UnknownSyntaxError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import regex

CODE_POINTS = 0x110000
_SURROGATES = slice(0xD800, 0xE000)
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾"

# The meaning of the shorthands in Oniguruma, the engine of `tokenizers`. Python's differ: its \s
# also matches the controls U+001C to U+001F.
_SHORTHANDS = {
    "s": r"\p{White_Space}",
    "S": r"\P{White_Space}",
    "d": r"\p{Nd}",
    "D": r"\P{Nd}",
    "w": f"[{_WORD}]",
    "W": f"[^{_WORD}]",
}

_QUANTIFIER = regex.compile(r"(?:([?*+])|\{(\d*)(,?)(\d*)\})([?+]?)")
_ASSERTIONS = ("(?=", "(?!", "(?<=", "(?<!")
_ANCHORS = frozenset("AzZbBG")
_REFUSED_ESCAPES = frozenset("kghHRXK")
_ESCAPE = regex.compile(r"\\(?:[pPx]\{[^}]*\}|x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}|.)", regex.DOTALL)


class UnknownSyntaxError(ValueError):
    """An expression uses syntax that the parser does not know."""


@dataclass(frozen=True)
class CharacterClass:
    """One character of a set, given by the source text of the set."""

    text: str
    ignore_case: bool = False


@dataclass(frozen=True)
class Repeat:
    """`part`, repeated `minimum` to `maximum` times (`None`: without limit).

    `begin` and `end` are the indices of part and quantifier in the expression. `quantifier` is the
    index where the quantifier begins.
    """

    part: Node
    minimum: int
    maximum: int | None
    begin: int = 0
    quantifier: int = 0
    end: int = 0


@dataclass(frozen=True)
class Concatenation:
    """Parts in sequence; without parts, the empty match."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Alternation:
    """A choice between options."""

    options: tuple[Node, ...]


@dataclass(frozen=True)
class Assertion:
    """A condition on the context, which matches no character."""


Node = CharacterClass | Repeat | Concatenation | Alternation | Assertion


@lru_cache(maxsize=64)
def parse(expression: str) -> Node:
    r"""Return the tree of an expression; raises `UnknownSyntaxError`.

    >>> parse(r"\p{L}+").part
    CharacterClass(text='\\p{L}', ignore_case=False)
    """
    parser = _Parser(expression)
    node = parser.alternation()
    if parser.at < len(expression):
        parser.refuse("an unexpected )")
    return node


@dataclass
class _Parser:
    """A recursive descent parser; `at` is the index of the next character."""

    expression: str
    at: int = 0
    ignore_case: bool = field(default=False)

    def refuse(self, what: str) -> None:
        msg = f"{what} at character {self.at} of {self.expression!r}"
        raise UnknownSyntaxError(msg)

    def _rest(self) -> str:
        return self.expression[self.at :]

    def alternation(self) -> Node:
        options = [self._concatenation()]
        while self._rest().startswith("|"):
            self.at += 1
            options.append(self._concatenation())
        return options[0] if len(options) == 1 else Alternation(tuple(options))

    def _concatenation(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.expression) and self.expression[self.at] not in "|)":
            parts.append(self._quantified())
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def _quantified(self) -> Node:
        begin = self.at
        node = self._atom()
        while match := _QUANTIFIER.match(self.expression, self.at):
            sign, low, comma, high, _ = match.groups()
            if sign is None and not low and not high:
                break  # a literal brace
            quantifier, self.at = self.at, match.end()
            minimum = int(low or 0)
            maximum = int(high or low) if high or (low and not comma) else None
            if sign:
                minimum = 1 if sign == "+" else 0
                maximum = 1 if sign == "?" else None
            node = Repeat(node, minimum, maximum, begin, quantifier, self.at)
        return node

    def _atom(self) -> Node:
        character = self.expression[self.at]
        if character == "(":
            return self._group()
        if character == "[":
            return self._characters(self._class_end())
        if character == "\\":
            return self._escape()
        if character in "^$":
            self.at += 1
            return Assertion()
        if character in "*+?":
            self.refuse("a quantifier with nothing to repeat")
        return self._characters(self.at + 1)

    def _characters(self, end: int) -> CharacterClass:
        text, self.at = self.expression[self.at : end], end
        return CharacterClass(text, self.ignore_case)

    def _escape(self) -> Node:
        end = escape_end(self.expression, self.at)
        letter = self.expression[self.at + 1 : self.at + 2]
        if letter in _ANCHORS:
            self.at = end
            return Assertion()
        if letter.isdigit() or letter in _REFUSED_ESCAPES:
            self.refuse(f"\\{letter}")
        return self._characters(end)

    def _class_end(self) -> int:
        """Return the index after the class that begins here; classes may be nested."""
        at, depth = self.at, 0
        while at < len(self.expression):
            character = self.expression[at]
            if character == "\\":
                at = escape_end(self.expression, at)
                continue
            depth += (character == "[") - (character == "]")
            at += 1
            if not depth:
                return at
        self.refuse("a class without a closing ]")
        return at

    def _group(self) -> Node:
        rest, outer = self._rest(), self.ignore_case
        assertion = next((opening for opening in _ASSERTIONS if rest.startswith(opening)), None)
        flags = regex.match(r"\(\?([ims]*)(?:-([ims]*))?([:)])", rest)
        if assertion:
            self.at += len(assertion)
        elif rest.startswith(("(?>", "(?:")):
            self.at += 3
        elif flags:
            self.at += flags.end()
            self.ignore_case = (outer or "i" in flags[1]) and "i" not in (flags[2] or "")
            if flags[3] == ")":
                # A flag without a body, "(?i)", holds up to the end of the enclosing group.
                return Concatenation()
        elif rest.startswith("(?"):
            self.refuse("a group of an unknown kind")
        else:
            self.at += 1
        inner = self.alternation()
        if not self._rest().startswith(")"):
            self.refuse("a group without a closing )")
        self.at += 1
        self.ignore_case = outer
        return Assertion() if assertion else inner


def escape_end(expression: str, at: int) -> int:
    r"""Return the index after the escape at `at`, such as `\p{L}`, `\x{41}`, `\u0041` or `\n`."""
    match = _ESCAPE.match(expression, at)
    if match is None:
        msg = f"a backslash without a character after it at the end of {expression!r}"
        raise UnknownSyntaxError(msg)
    return match.end()


def translate(text: str) -> str:
    """Return the text of a set in the syntax of the module `regex`."""
    if len(text) == 1:
        return r"[^\n]" if text == "." else regex.escape(text)
    parts, at = [], 0
    while at < len(text):
        end = escape_end(text, at) if text[at] == "\\" else at + 1
        piece = text[at:end]
        if piece.startswith(r"\x{"):
            piece = regex.escape(chr(int(piece[3:-1], 16)))
        parts.append(_SHORTHANDS.get(piece[1:], piece) if len(piece) == 2 else piece)
        at = end
    return "".join(parts)


@cache
def _every_character() -> str:
    points = np.arange(CODE_POINTS, dtype="<u4")
    points[_SURROGATES] = 0
    return points.tobytes().decode("utf-32-le")


@lru_cache(maxsize=128)
def members(characters: CharacterClass) -> npt.NDArray[np.bool_]:
    """Return, for every code point, whether a set holds it; surrogates belong to no set."""
    mask = np.zeros(CODE_POINTS, dtype=bool)
    flags = regex.VERSION1 | (regex.IGNORECASE if characters.ignore_case else 0)
    try:
        pattern = regex.compile(f"(?:{translate(characters.text)})+", flags)
    except regex.error as error:
        msg = f"the set {characters.text!r} ({error})"
        raise UnknownSyntaxError(msg) from error
    # One search for runs of members is faster than a match for each of 1.1 million characters.
    for match in pattern.finditer(_every_character()):
        mask[match.start() : match.end()] = True
    mask[_SURROGATES] = False
    return mask


def unlimited_repeats(node: Node) -> Iterator[Repeat]:
    """Yield the unlimited repeats of one set of characters, in the order of the expression."""
    if isinstance(node, Repeat):
        if isinstance(node.part, CharacterClass) and node.maximum is None:
            yield node
        else:
            yield from unlimited_repeats(node.part)
    for child in children(node):
        yield from unlimited_repeats(child)


def children(node: Node) -> tuple[Node, ...]:
    """Return the parts of a concatenation, or the options of an alternation."""
    if isinstance(node, Concatenation):
        return node.parts
    return node.options if isinstance(node, Alternation) else ()
