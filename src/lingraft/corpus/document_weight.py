"""How often a document counts, by a column of its record.

A document of weight w is in the training text w times: tokens are learned from its words w times,
and it is trained on w times. FineWeb-2 is used like this: it has one document of each cluster of
near-duplicates, with the size of the cluster, and its authors train on a document the more often
the larger its cluster is ("re-hydration", https://github.com/huggingface/fineweb-2). Their factors
are the `steps` {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1} of `minhash_cluster_size`.

Of a weight that is not whole, the fraction is the probability of one more copy, decided by the hash
of the document: the same documents in every run.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from lingraft.corpus.where import as_number, column_value
from lingraft.errors import CorpusError
from lingraft.registry import Settings

MAX_COPIES = 100
DEFAULT_MAX = 8
"""The largest factor of FineWeb-2's authors."""


def _refuse_no_steps(steps: Any) -> Any:
    if steps is not None and not steps:
        msg = "has no step; leave it out, or give {size: weight, ...}"
        raise ValueError(msg)
    return steps


_Step = Annotated[float, Field(allow_inf_nan=False)]


class DocumentWeight(Settings):
    """How often each document counts in the training text, by a column of its record."""

    written: ClassVar[str] = "the name of a column, or {column, steps, max}"

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Read the name of a column."""
        return {"column": value} if isinstance(value, str) else value

    column: str = Field(
        min_length=1, description="column with a number of at least 0; `metadata.x` is nested"
    )
    steps: Annotated[
        dict[_Step, Annotated[float, Field(ge=0, le=MAX_COPIES)]] | None,
        BeforeValidator(_refuse_no_steps),
    ] = Field(
        default=None,
        description="weights by the value of the column: {1: 1, 5: 3} gives values from 5 on the "
        "weight 3; values below the first step have the weight 1; without steps the value is the "
        "weight",
    )
    max: int = Field(
        default=DEFAULT_MAX, ge=1, le=MAX_COPIES, description="larger weights are this weight"
    )

    def weight_of(self, record: Mapping[str, Any], place: str) -> float | None:
        """Return the weight of a document, `None` for a null.

        It is not bounded by `max`. Raises `CorpusError` for a missing column and other values.
        """
        setting = f"weight: {self.column}"
        value = as_number(
            column_value(record, self.column, place, setting), self.column, place, setting
        )
        if value is None:
            return None
        if value < 0 or math.isinf(value):
            msg = (
                f'{place}: column "{self.column}" is {value:g}, and a weight is a finite number '
                f"of at least 0; correct the record, or {setting}"
            )
            raise CorpusError(msg)
        if self.steps is None:
            return value
        step = bisect_right(self._limits, value)
        return self.steps[self._limits[step - 1]] if step else 1.0

    @cached_property
    def _limits(self) -> list[float]:
        return sorted(self.steps or ())

    def copies(self, weight: float, digest: bytes) -> int:
        """Return how often a document occurs, given its weight and its hash.

        >>> sizes = DocumentWeight(column="size", steps={1: 1, 5: 2.5})
        >>> [sizes.copies(2.5, bytes([0] * 15 + [byte])) for byte in (0, 127, 128, 255)]
        [3, 3, 2, 2]
        >>> sizes.copies(10_000, bytes(16))
        8
        """
        weight = min(weight, self.max)
        # Not the first bytes: they decide whether the document is held out.
        chance = int.from_bytes(digest[8:16], "little") / 2**64
        return int(weight) + (chance < weight % 1)
