"""The amounts of texts, the budgets of phases, and how often training reads each text.

All amounts are expected values: `plan` has estimates, and training the counts of packed text.
`epoch_limits` makes a `ReadingPlan` from the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from lingraft.formatting import percent


@dataclass(frozen=True)
class TextAmount:
    """The amount of a text, its share of the bytes, and how often it may be read.

    `share` is that among the target texts; it has no meaning for replay, whose share is a setting
    of each phase. `separable_epochs` is a lower limit than `max_epochs`, up to which the epochs of
    few documents can be kept apart.
    """

    name: str
    bytes: float
    tokens: float
    documents: float
    sequences: float
    share: float = 1.0
    max_epochs: float | None = None
    separable_epochs: float = inf

    def limit(self, asked: float = 0) -> float:
        """Return the most bytes that may be read; `asked`, a budget in epochs, raises the limit."""
        epochs = max(self.max_epochs or inf, asked)
        return min(epochs, self.separable_epochs) * self.bytes

    def per_byte(self, unit: str) -> float:
        """Return the tokens, documents or sequences (for steps) of a byte of this text."""
        amounts = {"tokens": self.tokens, "documents": self.documents, "steps": self.sequences}
        return amounts[unit] / self.bytes


@dataclass(frozen=True)
class PhaseLength:
    """The budget of a phase, its share of replayed bytes, and the sequences of a step.

    `sequence_tokens` is the mean length of a sequence, which the batch in tokens follows.
    """

    unit: str
    amount: float
    replay_share: float = 0.0
    sequences_per_step: int = 1
    sequence_tokens: int = 1

    @property
    def odds(self) -> float:
        """The bytes of replay for a byte of target text."""
        return self.replay_share / (1 - self.replay_share)


@dataclass(frozen=True)
class TextReading:
    """How a text is read: its share of the bytes, as set and as it is, and its epochs.

    The shares are those among the target texts, or for replay those of all text. `wanted_epochs`
    are the epochs without the limit, `asked_epochs` those of a budget in epochs.
    """

    text: TextAmount
    wanted_share: float
    share: float
    wanted_epochs: float
    epochs: float
    asked_epochs: float = 0.0

    @property
    def is_lowered(self) -> bool:
        """Whether the share is lowered so that the text does not exceed its limit."""
        return self.share < self.wanted_share * (1 - 1e-6)

    @property
    def exceeds_limit(self) -> bool:
        """Whether the text is read more often than its limit says."""
        limit = self.text.max_epochs
        return limit is not None and self.epochs > limit * 1.001

    def warning(self, *, replay: bool = False) -> str | None:
        """Return a one-line warning if the share is lowered or the limit exceeded."""
        text, limit = self.text, self.text.max_epochs or inf
        name = f"{'replay' if replay else 'text'} in {text.name}"
        share = "replay.share" if replay else f"the weight of {text.name}, vocabulary.temperature"
        if self.exceeds_limit:
            reason = "the budget is more than all target texts within their limits"
            if self.asked_epochs > limit:
                reason = f"training.budget asks for {counted_epochs(self.asked_epochs)}"
            elif self.asked_epochs:
                reason = "training.budget counts the epochs of this text"
            return (
                f"{name} is read for {counted_epochs(self.epochs)}, more than its max_epochs "
                f"({limit:g}), because {reason}; repeated text is worth little after 4 epochs "
                f"(arXiv 2305.16264): give more {text.name} text, lower training.budget, or raise "
                "max_epochs"
            )
        if self.is_lowered and text.separable_epochs < inf:
            return (
                f"{name}: there are only {text.documents:,.0f} documents, so that one step would "
                "read a document twice: the share of this text in training is lowered from "
                f"{percent(self.wanted_share)} to {percent(self.share)}; give more text, or set a "
                "smaller training.batch_tokens"
            )
        if self.is_lowered:
            return (
                f"{name}: a share of {percent(self.wanted_share)} would read it for "
                f"{counted_epochs(self.wanted_epochs)}, and its max_epochs is {limit:g}: the share "
                f"is lowered to {percent(self.share)}, and other text has the rest; give more "
                f"{text.name} text, change {share}, or raise its max_epochs"
            )
        return None


@dataclass(frozen=True)
class ReadingPlan:
    """The shares of the target texts, the factor on the odds of replay, and how texts are read."""

    shares: tuple[float, ...]
    replay_factor: float
    targets: tuple[TextReading, ...]
    replay: TextReading | None

    @property
    def epochs(self) -> dict[str, float]:
        """The epochs of each text by its name."""
        readings = (*self.targets, *([self.replay] if self.replay else []))
        return {reading.text.name: reading.epochs for reading in readings}

    @property
    def tokens(self) -> float:
        """The tokens that are read of all texts."""
        readings = (*self.targets, *([self.replay] if self.replay else []))
        return sum(reading.epochs * reading.text.tokens for reading in readings)

    @property
    def warnings(self) -> list[str]:
        """One line for each text that reaches its limit."""
        lines = [reading.warning() for reading in self.targets]
        if self.replay:
            lines.append(self.replay.warning(replay=True))
        return [line for line in lines if line]

    def replay_share(self, share: float) -> float:
        """Return the share of replay in a phase for which this share is set."""
        if self.replay_factor == 1.0:
            return share
        odds = self.replay_factor * share / (1 - share)
        return odds / (1 + odds)


def counted_epochs(number: float) -> str:
    """Return a number of epochs for people.

    >>> counted_epochs(1.0), counted_epochs(0.034), counted_epochs(12.34)
    ('1 epoch', '0.034 epochs', '12.3 epochs')
    """
    shown = f"{number:.3g}"
    return f"{shown} epoch" if shown == "1" else f"{shown} epochs"


def epochs_line(epochs: Mapping[str, float]) -> str:
    """Return in one line how often training reads each text.

    A text of 0 epochs is one that a strategy only measures importance on.

    >>> epochs_line({"hi": 1.0, "brx": 4.0, "en": 0.0})
    'training reads hi for 1 epoch, brx for 4 epochs, en in no step'
    """
    described = []
    for name, number in epochs.items():
        described.append(f"{name} for {counted_epochs(number)}" if number else f"{name} in no step")
    return f"training reads {', '.join(described)}"
