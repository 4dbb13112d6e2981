"""Claims, the evidence on which they are checked, and the certificate file.

A claim counts its exceptions among the cases that were checked. It holds if there are cases and no
exceptions. A claim without cases (0 of 0) does not hold: it is *not checked*. A fatal claim that
does not hold stops the run, unless the recipe waives it by name. The other claims are for
information. Claims that cannot apply to a tokenizer (about merges, if the model has none) are
omitted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import CertificateError, StoreError
from lingraft.splice import Splice
from lingraft.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class Claim:
    """A property and the result of checking it.

    `value` is the number of exceptions among the `of` cases that were checked. `unit` names the
    cases. `exceptions` lists the first few exceptions, so that a message can name a token or text.
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
        """Whether something was checked and there are no exceptions."""
        return self.checked and self.value == 0

    @property
    def as_json(self) -> dict[str, Any]:
        """The claim with its result, in the form of certificate.json."""
        return {**asdict(self), "checked": self.checked, "holds": self.holds}

    def __str__(self) -> str:
        """The claim in one line, for error messages."""
        if not self.checked:
            return f"{self.name}: not checked, there were no {self.unit}{self._examples}"
        return f"{self.name}: {self.value} of {self.of} {self.unit}{self._examples}"

    @property
    def _examples(self) -> str:
        return f" ({'; '.join(self.exceptions)})" if self.exceptions else ""


@dataclass(frozen=True)
class Evidence:
    """What claims are checked on: both tokenizers, the splice between them, and texts.

    Each call of a text function reads the texts again, so they never have to fit into memory.
    `base_text` and `protected_text` are `None` if there is no base-language text, or none that is
    protected. The claims about such text are then omitted.
    """

    source: ModelTokenizer
    target: ModelTokenizer
    splice: Splice
    target_train: Callable[[], Iterable[str]]
    target_heldout: Callable[[], Iterable[str]]
    base_text: Callable[[], Iterable[str]] | None = None
    protected_text: Callable[[], Iterable[str]] | None = None
    # the form that the target converts text to, unlike the source
    normal_form: str | None = None
    by_rules: bool = True  # merges produce the new tokens; False: whole-word lookup only


# Claims that no recipe can waive: a token with another id would get the row of another token.
NEVER_WAIVED = (
    "base ids kept",
    "special tokens and chat template kept",
    "source tokens where they were",
    "source rows where they were",
)

NORMALISER = "base text as before with the normaliser"

# The names of all claims. Recipes name them in `vocabulary.allow`, so they must not change.
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
    "no target language longer",
    NORMALISER,
    "base-language documents identical",
    "protected documents identical",
)

RESULT_BROKEN = "claims about the extended tokenizer do not hold"


def map_to_target(splice: Splice) -> dict[int, int]:
    """Return the target id of each source id whose token the target has, kept or reinitialised."""
    pairs = splice.corresponding.items()
    return {source_id: target_id for target_id, source_id in pairs}


@dataclass(frozen=True)
class Certificate:
    """The claims about an extended tokenizer, and the names of those that may fail.

    >>> lost = Claim("round trip on target text", 2, 40, "texts", "...", exceptions=("'ﬁ'",))
    >>> Certificate((lost,)).holds, Certificate((lost,), waived=(lost.name,)).holds
    (False, True)
    >>> Certificate((lost,))
    Certificate(1 claims; failed: round trip on target text)
    >>> print(lost)
    round trip on target text: 2 of 40 texts ('ﬁ')
    """

    claims: tuple[Claim, ...]
    waived: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the number of claims and those that failed; `print` a claim to read it."""
        names = ", ".join(claim.name for claim in self.failed)
        result = f"failed: {names}" if names else "holds"
        return f"Certificate({len(self.claims)} claims; {result})"

    @property
    def failed(self) -> tuple[Claim, ...]:
        """The fatal claims that do not hold and are not waived."""
        broken = [claim for claim in self.claims if claim.fatal and not claim.holds]
        return tuple(claim for claim in broken if not self._waives(claim))

    @property
    def holds(self) -> bool:
        """Whether no claim failed."""
        return not self.failed

    @property
    def as_json(self) -> dict[str, Any]:
        """The content of certificate.json."""
        records = [{**claim.as_json, "waived": self._waives(claim)} for claim in self.claims]
        return {"format": 1, "claims": records}

    def _waives(self, claim: Claim) -> bool:
        return claim.name in self.waived and claim.name not in NEVER_WAIVED

    def check(self, broken: str = RESULT_BROKEN) -> None:
        """Raise `CertificateError`, with a message that begins with `broken`, if a claim failed."""
        failed = self.failed
        if not failed:
            return
        facts = "; ".join(map(str, failed))
        never_waived = [claim.name for claim in failed if claim.name in NEVER_WAIVED]
        if never_waived:
            remedy = (
                f"{never_waived[0]!r} cannot be waived because ids of the base would have the rows "
                "of other tokens"
            )
        else:
            remedy = f"vocabulary.allow: [{failed[0].name!r}] accepts it by name"
        msg = f"{broken} ({facts}); {remedy}"
        raise CertificateError(msg)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read certificate.json; raises `StoreError` if it cannot be read."""
        try:
            records = json.loads(Path(path).read_text(encoding="utf-8"))["claims"]
            waived = [record["name"] for record in records if record.get("waived")]
            return cls(tuple(map(_read_claim, records)), tuple(waived))
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{path}: not a certificate ({error}); run the recipe again"
            raise StoreError(msg) from error

    def write(self, path: Path) -> None:
        """Write certificate.json."""
        text = json.dumps(self.as_json, ensure_ascii=False, indent=1)
        path.write_text(text, encoding="utf-8")


def write_certificate(
    claims: Sequence[Claim], path: Path, *, waived: Sequence[str] = (), broken: str = RESULT_BROKEN
) -> Certificate:
    """Write certificate.json, and return its content.

    Raises `CertificateError` with a message that begins with `broken` if a fatal claim does not
    hold and is not waived.
    """
    certificate = Certificate(tuple(claims), tuple(waived))
    # Written before the error is raised: the file shows which claims failed.
    certificate.write(path)
    certificate.check(broken)
    return certificate


def _read_claim(record: Mapping[str, Any]) -> Claim:
    return Claim(
        record["name"],
        record["value"],
        record["of"],
        record["unit"],
        record.get("detail", ""),
        record.get("fatal", True),
        tuple(record.get("exceptions", ())),
    )
