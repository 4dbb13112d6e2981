"""What a claim is, what claims are checked on, and how a certificate is written.

A claim counts its exceptions among the cases that were checked. It holds where there are cases and no exception. A
claim that was checked on nothing (0 of 0) does not hold: it is *not checked*. Fatal claims that do not hold stop the
run unless the recipe waives them by name; the others are for information. A claim that cannot apply to a tokenizer
(the merges of a model without merges) is not made at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import CertificateError
from lingraft.splice import Splice
from lingraft.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class Claim:
    """A promise and its exceptions: `value` of `of` `unit`.

    `exceptions` names the first few, so that a message can say which token or text breaks the promise.
    """

    name: str
    value: int
    of: int
    unit: str
    detail: str
    fatal: bool = True
    exceptions: tuple[str, ...] = ()

    @property
    def checked(self) -> bool:
        """Whether there was anything to check."""
        return self.of > 0

    @property
    def holds(self) -> bool:
        """Whether something was checked and nothing is an exception."""
        return self.checked and self.value == 0

    @property
    def as_json(self) -> dict[str, Any]:
        """The claim with its verdict, as certificate.json holds it."""
        return {**asdict(self), "checked": self.checked, "holds": self.holds}

    def __str__(self) -> str:
        """The claim in one line, as error messages show it."""
        if not self.checked:
            return f"{self.name}: not checked, there were no {self.unit}{self._examples}"
        return f"{self.name}: {self.value} of {self.of} {self.unit}{self._examples}"

    @property
    def _examples(self) -> str:
        return f" ({'; '.join(self.exceptions)})" if self.exceptions else ""


@dataclass(frozen=True)
class Evidence:
    """What claims are checked on: both tokenizers, the splice between them, and texts.

    Each call of a text function reads the texts again. `base_text` and `protected_text` are `None`
    where no base-language text is given, or none is protected: no claim is made about it then.
    """

    source: ModelTokenizer
    target: ModelTokenizer
    splice: Splice
    target_train: Callable[[], Iterable[str]]
    target_heldout: Callable[[], Iterable[str]]
    base_text: Callable[[], Iterable[str]] | None = None
    protected_text: Callable[[], Iterable[str]] | None = None
    by_rules: bool = True  # new tokens are produced by merges, not only looked up whole


NEVER_WAIVED = (
    "base ids kept",
    "special tokens and chat template kept",
    "source tokens where they were",
    "source rows where they were",
)
"""Claims that no recipe can waive: a token under another id has the embedding row of another token."""

CLAIM_NAMES = (
    *NEVER_WAIVED,
    "source read as transformers reads it",
    "source read as SentencePiece reads it",
    "source read as its file lists it",
    "configured ids name the same tokens",
    "configured ids are tokens",
    "same ids in transformers",
    "tokenizer settings kept",
    "tokenizer.model agrees",
    "new tokens rank below the base",
    "added tokens reachable",
    "added tokens reachable by whole-word lookup",
    "added tokens used in running text",
    "no untrained base row in use",
    "no base token becomes reachable",
    "scripts cut as before",
    "round trip of the base itself",
    "round trip on target text",
    "round trip on awkward text",
    "no target document longer",
    "no text of any kind longer",
    "base-language documents identical",
    "protected documents identical",
)
"""The names of all claims."""

THE_RESULT = "the extended tokenizer breaks what it promises"


def write_certificate(
    claims: Sequence[Claim], path: Path, *, waived: Sequence[str] = (), broken: str = THE_RESULT
) -> None:
    """Write certificate.json.

    Raises `CertificateError`, which begins with `broken`, where a fatal claim does not hold and is
    not waived.
    """
    accepted = set(waived).difference(NEVER_WAIVED)
    rows = [{**claim.as_json, "waived": claim.name in accepted} for claim in claims]
    document = {"format": 1, "claims": rows}
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    failed = [
        claim for claim in claims if claim.fatal and not claim.holds and claim.name not in accepted
    ]
    if not failed:
        return
    facts = "; ".join(str(claim) for claim in failed)
    fixed = [claim.name for claim in failed if claim.name in NEVER_WAIVED]
    if fixed:
        remedy = f"{fixed[0]!r} cannot be waived: ids of the base would have rows of other tokens"
    else:
        remedy = f"vocabulary.allow: [{failed[0].name!r}] accepts it by name"
    msg = f"{broken} ({facts}); {remedy}"
    raise CertificateError(msg)
