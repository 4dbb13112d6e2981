"""The contract of a selection method: from a text to new tokens in the order of their ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lingraft.families.base import Family
from lingraft.registry import Choice, Registry


@dataclass(frozen=True)
class SelectionRequest:
    """What a method may use.

    `counts` are the units of the target text (already weighted where there are several languages), `protected` those
    of text whose segmentation must not change, `texts` gives the documents anew at each call, `size` is how many
    tokens to add.
    """

    family: Family
    counts: Counter[str]
    size: int
    protected: frozenset[str] = frozenset()
    texts: Callable[[], Iterator[str]] = lambda: iter(())


@dataclass(frozen=True)
class Selected:
    """New tokens, first rank first.

    `saved[i]` are the tokens that token i saved in the text when it was added (empty where a method cannot say),
    `tokens_before` the base's tokens there, `notes` counts of what was left out or repaired, with reasons.
    """

    surfaces: tuple[bytes, ...]
    saved: tuple[int, ...] = ()
    tokens_before: int = 0
    notes: dict[str, int] = field(default_factory=dict)


class Selection(Choice):
    """A way to choose tokens."""

    @abstractmethod
    def select(self, request: SelectionRequest) -> Selected:
        """Return up to `request.size` new tokens; fewer only where the text does not hold more."""


SELECTIONS: Registry[Selection] = Registry("selection method")
