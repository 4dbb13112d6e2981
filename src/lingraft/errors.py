"""What can go wrong in the hands of a user, one class for each place to look.

    LingraftError               exit 2   the user can act on it; anything else is our bug and shows a traceback
    ├── RecipeError                      a setting: unknown, ill-typed, contradictory
    ├── CorpusError                      text: missing, empty, not UTF-8, without the named field
    ├── TokenizerError                   a tokenizer that cannot be read, or is of no family that we know
    ├── ModelError                       a checkpoint that cannot be read, or does not fit its tokenizer
    ├── CertificateError                 a splice that breaks a promise which the recipe does not waive
    ├── TrainingError           exit 3   a run that cannot go on: diverging loss, a damaged checkpoint
    ├── StoreError                       the disk: no room, no permission, a file that is not what was written
    ├── HubError                         a hub that does not answer, or answers no
    ├── MissingExtraError                an optional dependency, with the command that installs it
    └── Interrupted             exit 130 stopped by a signal, after saving what was done

A message has four parts: what was seen, what was expected, what to do, and where.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LingraftError(Exception):
    """Something that the user can mend; its text is the whole explanation, on one line."""

    exit_code = 2


class RecipeError(LingraftError):
    """A setting that is unknown, of the wrong type, or at odds with another one."""


class CorpusError(LingraftError):
    """Text that is missing, empty, undecodable, or not where the recipe says."""


class TokenizerError(LingraftError):
    """A tokenizer that cannot be read or belongs to no known family."""


class ModelError(LingraftError):
    """A checkpoint that cannot be read or does not fit its tokenizer."""


class CertificateError(LingraftError):
    """A splice that breaks a promise which the recipe does not waive by name."""


class TrainingError(LingraftError):
    """A training run that cannot go on."""

    exit_code = 3


class StoreError(LingraftError):
    """A disk without room or permission, or a stored file that is not what was written."""


class HubError(LingraftError):
    """A hub that does not answer, or answers no."""


class MissingExtraError(LingraftError):
    """An optional dependency that is not installed.

    >>> str(MissingExtraError("lingua", extra="language-id"))
    "lingua is not installed; this setting needs it: pip install 'lingraft[language-id]'"
    """

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(
            f"{module} is not installed; this setting needs it: pip install 'lingraft[{extra}]'"
        )


class Interrupted(LingraftError):  # noqa: N818 - an interruption is no error of anyone's
    """A signal stopped the run; what was done is saved and the same command goes on."""

    exit_code = 130


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Say which known words there are, and which one is nearest to `word`.

    >>> did_you_mean("contined", ["append", "continued"])
    "did you mean 'continued'? known: append, continued"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    listing = "known: " + ", ".join(names)
    return f"did you mean {nearest[0]!r}? {listing}" if nearest else listing
