"""Conditions on the columns of a record: `language_score >= 0.9 and language == "hin"`.

A condition is one or more comparisons joined by `and`. A comparison is a column, one of
`== != < <= > >=`, and a number, a text in quotation marks, `true` or `false`. `metadata.score` is
the nested column. A parser of this grammar reads it; nothing is evaluated as code.

Comparisons are those of SQL: a null is neither equal nor unequal to anything, so that a document
with a null in a compared column is dropped, and counted apart. A value that is not a number counts
as null where a number is expected (NaN), and so does the empty cell of a CSV file. Text that spells
a number is one, because CSV has no numbers. Text is compared by code points, as ISO dates can be.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import regex

from lingraft.corpus.record_values import field_names, kind_of_value, value_of
from lingraft.errors import CorpusError

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_SPELLINGS = {"=": "==", "<>": "!="}
"""Spellings of SQL, and what they are written as."""
_EQUALITY = ("==", "!=")
_TOKEN = regex.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<operator><=|>=|==|!=|<>|=|<|>)
    |(?P<word>[\p{L}_][\w\p{M}-]*(?:\.[\w\p{M}-]+)*)
    )""",
    regex.VERBOSE,
)
_DECIMAL_COMMA = regex.compile(r"[-+]?\d+,\d+")
_MAX_LENGTH = 2000
EXPECTED = "expected COLUMN >= VALUE, joined by `and`, such as language_score >= 0.9"

Value = float | str | bool


@dataclass(frozen=True)
class Comparison:
    """A column compared with a value."""

    column: str
    operator: str
    value: Value

    def holds(self, record: Mapping[str, Any], place: str, setting: str) -> bool | None:
        """Return whether it holds for a record, `None` for a null; raises `CorpusError`."""
        found = column_value(record, self.column, place, setting)
        if isinstance(self.value, bool):
            compared: Any = _as_boolean(found, self.column, place, setting)
        elif isinstance(self.value, str):
            compared = _as_text(found, self.column, place, setting)
        else:
            compared = as_number(found, self.column, place, setting)
        if compared is None:
            return None
        return bool(OPERATORS[self.operator](compared, self.value))

    def __str__(self) -> str:
        if isinstance(self.value, bool):
            value = str(self.value).lower()
        elif isinstance(self.value, str):
            mark = "'" if '"' in self.value else '"'
            value = f"{mark}{self.value}{mark}"
        else:
            value = repr(self.value).removesuffix(".0")
        return f"{self.column} {self.operator} {value}"


@dataclass(frozen=True)
class Condition:
    """Comparisons that must all hold."""

    comparisons: tuple[Comparison, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are compared."""
        return tuple(dict.fromkeys(comparison.column for comparison in self.comparisons))

    def holds(self, record: Mapping[str, Any], place: str) -> bool | None:
        """Return whether all comparisons hold; `None` if none fails and one compares a null.

        Raises `CorpusError` for a missing column, and for a value of another type.
        """
        setting = f"where: {self}"
        # All are made: a missing column is an error also where an earlier comparison fails.
        results = [each.holds(record, place, setting) for each in self.comparisons]
        if False in results:
            return False
        return None if None in results else True

    def __str__(self) -> str:
        return " and ".join(map(str, self.comparisons))


@cache
def parse_condition(text: str) -> Condition:
    """Parse a condition; raises `ValueError` with the place of what is not understood.

    >>> str(parse_condition("metadata.language_score>=.9 and language = 'hin'"))
    'metadata.language_score >= 0.9 and language == "hin"'
    >>> parse_condition("a > 1 and b == true").holds({"a": 2, "b": True}, "x.jsonl:1")
    True
    """
    tokens = _tokens(text)
    comparisons = []
    while True:
        comparisons.append(_comparison(tokens, text))
        kind, word, column = tokens.pop(0)
        if kind == "end":
            return Condition(tuple(comparisons))
        if kind != "word" or word.lower() != "and":
            only = "; only `and` joins comparisons" if word.lower() in {"or", "not"} else ""
            raise _problem(text, column, f"{word!r} is not understood here{only}")


Token = tuple[str, str, int]


def _tokens(text: str) -> list[Token]:
    """Return kind, text and column of all tokens, with one of the kind `end` at the end."""
    if len(text) > _MAX_LENGTH:
        msg = f"the condition has {len(text):,} characters, and {_MAX_LENGTH:,} are allowed"
        raise ValueError(msg)
    tokens: list[Token] = []
    place, stop = 0, len(text.rstrip())
    while place < stop:
        match = _TOKEN.match(text, place)
        if match is None:
            begin = place + len(text[place:]) - len(text[place:].lstrip())
            raise _problem(text, begin + 1, f"{text[begin : begin + 10]!r} is not understood")
        kind = str(match.lastgroup)
        tokens.append((kind, match[kind], match.start(kind) + 1))
        place = match.end()
    return [*tokens, ("end", "", stop + 1)]


def _comparison(tokens: list[Token], text: str) -> Comparison:
    kind, name, column = tokens.pop(0)
    if kind != "word":
        what = repr(name) if name else "the end"
        raise _problem(text, column, f"a column is expected, not {what}")
    kind, sign, column = tokens.pop(0)
    if kind != "operator":
        what = repr(sign) if sign else "the end"
        raise _problem(text, column, f"one of {' '.join(OPERATORS)} is expected, not {what}")
    sign = _SPELLINGS.get(sign, sign)
    kind, literal, column = tokens.pop(0)
    value: Value
    if kind == "number":
        value = float(literal)
        if not math.isfinite(value):
            raise _problem(text, column, f"{literal} is too large a number")
    elif kind == "text":
        value = literal[1:-1]
    elif kind == "word" and literal.lower() in {"true", "false"}:
        value = literal.lower() == "true"
        if sign not in _EQUALITY:
            raise _problem(text, column, f"{literal} is compared by == or !=")
    else:
        hint = f"; text has quotation marks: '{literal}'" if kind == "word" else ""
        if literal.lower() in {"null", "none", "nan"}:
            hint = "; documents with a null are dropped by every comparison of the column"
        what = repr(literal) if literal else "the end"
        raise _problem(text, column, f"a value is expected, not {what}{hint}")
    return Comparison(name, sign, value)


def _problem(text: str, column: int, problem: str) -> ValueError:
    return ValueError(f"{text!r}, character {column}: {problem}; {EXPECTED}")


def column_value(record: Mapping[str, Any], column: str, place: str, setting: str) -> Any:
    """Return the value of a column; `setting` names it in the error, with its value.

    Raises `CorpusError` with the columns that exist.
    """
    try:
        return value_of(record, column)
    except KeyError:
        names = field_names(record)
        same = [name for name in names if name.rpartition(".")[2] == column.rpartition(".")[2]]
        advice = f"write {same[0]}" if len(same) == 1 else "name one of them"
        msg = (
            f'{place}: no column "{column}"; the columns are {", ".join(names) or "none"}; '
            f"{advice} in {setting}"
        )
        raise CorpusError(msg) from None


def as_number(value: Any, column: str, place: str, setting: str) -> float | None:
    """Return a value as a number, `None` for a null, NaN and an empty cell.

    Raises `CorpusError` for other values.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        number = _as_float(value)
        return None if math.isnan(number) else number
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            pass
        else:
            return None if math.isnan(number) else number
    raise _wrong_type(value, column, "a number", place, setting)


def _as_float(value: float | Decimal) -> float:
    """Return a number as a float; a whole number beyond the floats is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _as_text(value: Any, column: str, place: str, setting: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, date):  # also `datetime`, as parquet stores times
        return value.isoformat()
    raise _wrong_type(value, column, "text", place, setting)


def _as_boolean(value: Any, column: str, place: str, setting: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false", ""}:
        return {"true": True, "false": False}.get(value.strip().lower())
    raise _wrong_type(value, column, "true or false", place, setting)


def _wrong_type(value: Any, column: str, wanted: str, place: str, setting: str) -> CorpusError:
    is_short = isinstance(value, (str, int, float)) and len(str(value)) <= 40
    what = repr(value) if is_short else kind_of_value(value)
    if isinstance(value, bool):
        what = str(value).lower()
    remedy = f"correct {setting}, or the record"
    if isinstance(value, str) and wanted == "a number" and _DECIMAL_COMMA.fullmatch(value.strip()):
        remedy = f"write the column with decimal points, as {setting} needs numbers"
    msg = f'{place}: column "{column}" is {what}, not {wanted}; {remedy}'
    return CorpusError(msg)
