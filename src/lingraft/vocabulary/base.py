"""The interface of selection methods: from the words of a text to new tokens in rank order.

A *surface* is the bytes that a token adds to a text. A *unit* is a pre-token as the model of the
tokenizer sees it: tokens never cross the boundary of a unit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from lingraft.registry import Choice, Registry
from lingraft.tokenizer.base import Family


@dataclass(frozen=True)
class LanguageText:
    """The text of one of several languages whose premiums are to become more equal.

    Attributes:
        language: the tag of the language.
        counts: the units of the text that tokens are learned from.
        measured: the units of the text whose tokens are counted for the premium.
        content: how much the measured text says, in a unit that all languages share. The premium
            is the number of its tokens divided by this.
    """

    language: str
    counts: Counter[str]
    measured: Counter[str]
    content: float


@dataclass(frozen=True)
class SelectionRequest:
    """The input of a selection method.

    Attributes:
        family: the tokenizer to extend.
        counts: the units of the target text, weighted if there are several languages.
        size: the number of tokens to add, or to remove when pruning.
        protected: units whose segmentation must not change.
        base_counts: the units of base-language text.
        excluded: surfaces that must not be added.
        where: the folder of the tokenizer, for error messages.
        balanced: the texts of several languages whose premiums are to become more equal; empty if
            `counts` decides.
    """

    family: Family
    counts: Counter[str]
    size: int
    protected: frozenset[str] = frozenset()
    base_counts: Counter[str] = field(default_factory=Counter)
    excluded: frozenset[bytes] = frozenset()
    where: Path = Path()
    balanced: tuple[LanguageText, ...] = ()


@dataclass(frozen=True)
class Selected:
    """New tokens, in rank order.

    Attributes:
        surfaces: the surface of each new token.
        saved: how many tokens of the text each new token saved when it was added, weighted if there
            are several languages. It is empty if the method does not know.
        tokens_before: the tokens of the text under the base tokenizer, weighted in the same way.
        notes: counts of candidates that were left out or changed, by reason.
        dropped: source ids that are removed. New tokens reuse these ids in the same order.
        whole_units: whether the tokens are looked up as whole units, without merges.
    """

    surfaces: tuple[bytes, ...]
    saved: tuple[int, ...] = ()
    tokens_before: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    dropped: tuple[int, ...] = ()
    whole_units: bool = False

    def first(self, size: int) -> Selected:
        """Return the first `size` tokens.

        A greedy method would select the same tokens for a request of this `size`.
        """
        return replace(self, surfaces=self.surfaces[:size], saved=self.saved[:size])


class Selection(Choice):
    """A selection method.

    `adds` and `removes` say what it does with the number of tokens that it is given. `needs_base`
    says whether it also reads base-language text, `balances` whether it can choose tokens so that
    the premiums of several languages become equal, and `is_predicted` whether the fertility curve
    is that of its tokens.
    """

    adds: ClassVar[bool] = True
    removes: ClassVar[bool] = False
    needs_base: ClassVar[bool] = False
    balances: ClassVar[bool] = False
    is_predicted: ClassVar[bool] = False

    @abstractmethod
    def select(self, request: SelectionRequest) -> Selected:
        """Return up to `request.size` new tokens, fewer only if the text does not hold more."""


SELECTIONS: Registry[Selection] = Registry("selection method", Selection)
