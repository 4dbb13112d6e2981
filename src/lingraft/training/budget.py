"""The length of a training phase: tokens, bytes, documents, steps or epochs.

Equal tokens compare runs of equal compute, equal bytes runs on equal text: tokenizers differ in the
number of tokens for a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any, ClassVar

from pydantic import Field, model_validator

from lingraft.errors import shown
from lingraft.registry import Settings

UNITS = ("tokens", "bytes", "documents", "steps", "epochs")
FACTORS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
WRITTEN = re.compile(
    r"\s*((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kKMGBT]?)\s*"
    r"(?:(token|byte|document|step|epoch)s?|B)\s*"
)


MAX_AMOUNT = 10**24
"""More than any text has, and products with it are finite; in epochs, 1e12."""


class Budget(Settings):
    """The length of a phase; exactly one unit is set, by default 1 epoch.

    Recipes write `20M tokens`, `1 MB`, `1 epoch`, or `{bytes: 1000000}`.

    >>> Budget.model_validate("1.5 MB").bytes, Budget.model_validate("20M tokens").amount
    (1500000, ('tokens', 20000000))
    >>> Budget().amount
    ('epochs', 1.0)
    >>> Budget.model_validate("200 kB").bytes, Budget.model_validate("1,000 tokens").tokens
    (200000, 1000)
    """

    tokens: int | None = Field(
        default=None, gt=0, description="predicted tokens, including replay (equal compute)"
    )
    bytes: int | None = Field(
        default=None, gt=0, description="bytes of target text, excluding replay (equal text)"
    )
    documents: int | None = Field(
        default=None, gt=0, description="documents of target text, excluding replay"
    )
    steps: int | None = Field(default=None, gt=0, description="optimizer steps")
    epochs: float | None = Field(
        default=None, gt=0, description="passes over the target text, excluding replay"
    )

    written: ClassVar[str] = "'20M tokens', '1 MB', '500 steps' or '1 epoch'"

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read a number with its unit."""
        if isinstance(value, str):
            found = WRITTEN.fullmatch(value)
            if not found:
                msg = f"a budget is written like {cls.written}, got {value!r}"
                raise ValueError(msg)
            number, factor, unit = found.groups()
            # Only as a unit is B bytes: as a factor, it is 1e9 (`1B tokens`).
            unit = f"{unit or 'byte'}s"
            amount = float(re.sub("[_,]", "", number)) * FACTORS[factor]
            if not math.isfinite(amount):
                msg = f"{shown(value)} is too large; give {cls.written}"
                raise ValueError(msg)
            return {unit: amount if unit == "epochs" else round(amount)}
        return {"epochs": 1.0} if value == {} else value

    @classmethod
    def replaced_by(cls, name: str) -> Collection[str]:
        """Replace the other units by this one."""
        return set(UNITS) - {name} if name in UNITS else ()

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [unit for unit in UNITS if getattr(self, unit) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            msg = f"a budget names exactly one of {', '.join(UNITS)}, got {found}"
            raise ValueError(msg)
        unit, amount = self.amount
        largest = 1e-12 * MAX_AMOUNT if unit == "epochs" else MAX_AMOUNT
        if amount > largest:
            msg = f"a budget has at most {largest:g} {unit}; give fewer"
            raise ValueError(msg)
        return self

    def split(self, share: float) -> tuple[Budget, Budget]:
        """Return a share of this budget, and the rest; parts in whole units have at least one.

        >>> [part.steps for part in Budget(steps=25).split(0.1)]
        [2, 23]
        >>> [part.epochs for part in Budget(epochs=1).split(0.1)]
        [0.1, 0.9]
        """
        unit, amount = self.amount
        first = amount * share if unit == "epochs" else max(1, round(amount * share))
        # Not 1 - share of the amount: two rounded parts can have another sum.
        rest = amount - first if unit == "epochs" else max(1, amount - first)
        return Budget.model_validate({unit: first}), Budget.model_validate({unit: rest})

    @property
    def amount(self) -> tuple[str, float]:
        """The unit and the number of units."""
        unit = next(unit for unit in UNITS if getattr(self, unit) is not None)
        return unit, getattr(self, unit)
