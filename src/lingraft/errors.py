"""Exceptions that users can act on, one class per area.

    LingraftError               exit 2   base class; any other exception is a bug
    ├── RecipeError                      a setting: unknown, wrong type, contradictory
    ├── CorpusError                      text: missing, empty, not UTF-8, without the named field
    ├── TokenizerError                   a tokenizer: unreadable, or of an unsupported type
    ├── ModelError                       a checkpoint: unreadable, or does not fit its tokenizer
    ├── CertificateError                 a splice that breaks a claim that the recipe does not waive
    ├── TrainingError           exit 3   training that cannot continue: a diverging loss
    ├── StoreError                       the disk: full, no permission, a damaged file
    ├── HubError                         the Hub: no connection, or a refused request
    └── MissingExtraError                an optional package, with the command that installs it

    Interrupted                 exit 130 stopped by a signal, after saving; no error

A message is one line: `WHERE: what is wrong; what to do`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any


class LingraftError(Exception):
    """An error that the user can fix; its message is the complete explanation, on one line."""

    exit_code = 2


class RecipeError(LingraftError):
    """A setting that is unknown, has the wrong type, or contradicts another setting."""


class CorpusError(LingraftError):
    """Text that is missing, empty or not UTF-8, or that lacks the field of the recipe."""


class TokenizerError(LingraftError):
    """A tokenizer that cannot be read, or whose type is not supported."""


class ModelError(LingraftError):
    """A checkpoint that cannot be read or does not fit its tokenizer."""


class CertificateError(LingraftError):
    """A splice that breaks a claim of the certificate that the recipe does not waive by name."""


class TrainingError(LingraftError):
    """Training that cannot continue."""

    exit_code = 3


class StoreError(LingraftError):
    """A full disk, a missing permission, or a stored file that has changed."""


class HubError(LingraftError):
    """The Hub does not respond, or refuses a request."""


class MissingExtraError(LingraftError):
    """An optional dependency that is not installed.

    >>> import copy
    >>> str(MissingExtraError("lingua", extra="language-id"))
    "lingua is not installed, and is needed here: pip install 'lingraft[language-id]'"
    >>> copy.copy(MissingExtraError("lingua", extra="language-id")).extra
    'language-id'
    """

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(
            f"{module} is not installed, and is needed here: pip install 'lingraft[{extra}]'"
        )
        self.module, self.extra = module, extra

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how other processes make this error: pickle would leave `extra` out."""
        return partial(MissingExtraError, extra=self.extra), (self.module,)


class Interrupted(BaseException):
    """A signal stopped the run; finished work is saved, and the same command continues it.

    Like `KeyboardInterrupt`, it is no `Exception`: code that expects errors of any kind from a
    library must not take it for one of them, and go on.
    """

    exit_code = 130


@contextmanager
def named_errors(folder: Path, name: str) -> Iterator[None]:
    """In errors from the block, replace the path of a temporary folder by what the user gave.

    >>> with named_errors(Path("/tmp/x"), "my-model"):
    ...     raise ModelError("/tmp/x/config.json: not readable")
    Traceback (most recent call last):
    ...
    lingraft.errors.ModelError: my-model/config.json: not readable
    """
    try:
        yield
    except LingraftError as error:
        error.args = (str(error).replace(str(folder), name),)
        raise


FEW_NAMES = 8
"""So many names or fewer are all listed by a message."""
MAX_SHOWN = 60
"""Characters of a value in a message."""
MAX_MESSAGE = 300
"""Characters of the message of another error."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the up to three known words that are nearest to `word`, and all of a few.

    >>> did_you_mean("contined", ["append", "continued"])
    "did you mean 'continued'? known: append, continued"
    >>> did_you_mean("b10", [f"b{number}" for number in range(300)])
    "did you mean 'b10', 'b210' or 'b190'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    question = f"did you mean {either(map(repr, near))}?" if near else ""
    if len(names) <= FEW_NAMES:
        listing = "known: " + ", ".join(names)
    elif near:
        listing = ""
    elif len(names) <= 3 * FEW_NAMES:
        listing = "known: " + ", ".join(names)
    else:
        nearest = difflib.get_close_matches(word, names, n=3, cutoff=0.0)
        listing = f"the nearest of {len(names):,}: " + ", ".join(nearest)
    return f"{question} {listing}".strip()


def either(words: Iterable[str]) -> str:
    """Return words as a choice.

    >>> either("abc"), either("a")
    ('a, b or c', 'a')
    """
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, cut at 300 characters.

    An error without a message is shown by its class name.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "..."


def shown(value: object) -> str:
    """Return a value of a recipe as a short text for a message.

    >>> shown("ten"), shown(None), shown({"a": [True]}), shown("x" * 100)[-5:]
    ('"ten"', 'nothing', '{"a": [true]}', 'x..."')
    """
    if value is None:
        return "nothing"
    if isinstance(value, str) and len(value) > MAX_SHOWN:
        value = f"{value[:MAX_SHOWN]}..."
    text = json.dumps(value, ensure_ascii=False, default=lambda _object: "...")
    return text if len(text) <= MAX_SHOWN + 5 else f"{text[:MAX_SHOWN]}..."
