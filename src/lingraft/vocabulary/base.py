"""The contract of a selection method: from a text to new tokens in the order of their ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from lingraft.registry import Choice, Registry
from lingraft.tokenizer.base import Family


@dataclass(frozen=True)
class SelectionRequest:
    """What a method may use.

    `counts` are the units of the target text (already weighted where there are several languages), `size` is how many
    tokens to add (or to take out), `protected` are units whose segmentation must not change, `base_counts` the units
    of base-language text, `excluded` surfaces that must not be added, `where` is the tokenizer's place, for messages.
    """

    family: Family
    counts: Counter[str]
    size: int
    protected: frozenset[str] = frozenset()
    base_counts: Counter[str] = field(default_factory=Counter)
    excluded: frozenset[bytes] = frozenset()
    where: Path = Path()


@dataclass(frozen=True)
class Selected:
    """New tokens, first rank first.

    `saved[i]` are the tokens that token i saved in the text when it was added (empty where a method cannot say),
    `tokens_before` the base's tokens there, `notes` counts of what was left out or repaired, with reasons. `dropped`
    are ids of the source that go; new tokens take them over, first to first. `whole_units` says that the tokens are
    looked up whole, without merges.
    """

    surfaces: tuple[bytes, ...]
    saved: tuple[int, ...] = ()
    tokens_before: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    dropped: tuple[int, ...] = ()
    whole_units: bool = False

    def first(self, size: int) -> Selected:
        """Return the first `size` tokens: a prefix is what a smaller budget would have chosen."""
        return replace(self, surfaces=self.surfaces[:size], saved=self.saved[:size])


class Selection(Choice):
    """A way to choose tokens; `needs_base` says that it reads base-language text too."""

    needs_base: ClassVar[bool] = False

    @abstractmethod
    def select(self, request: SelectionRequest) -> Selected:
        """Return up to `request.size` new tokens; fewer only where the text does not hold more."""


SELECTIONS: Registry[Selection] = Registry("selection method")
