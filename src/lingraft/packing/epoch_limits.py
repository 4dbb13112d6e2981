"""How often each text is read in training, and what happens where that passes its limit.

A scarce text is repeated so that it has its share of the training text. Up to 4 epochs, repeated
text is worth almost as much as new text, and its value falls quickly after that (Muennighoff et
al. 2023, arXiv 2305.16264). So each text has a limit in epochs. A text that would exceed it is read
that often, its share is lowered, and the other texts have more. Where all target texts would exceed
their limits, the budget takes precedence, and each is read in proportion to its limit. A budget in
epochs overrides lower limits, and the text whose epochs it counts (`lead_text`) has no limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from lingraft.packing.reading_plan import PhaseLength, ReadingPlan, TextAmount, TextReading

STEPS = 50
"""Steps of a bisection: about the bits of a float."""


def lead_text(targets: Sequence[TextAmount]) -> int:
    """Return the index of the text with the most bytes for its share.

    An epoch of a budget is an epoch of this text, so every other text is read at least as often,
    unless it has too few documents to keep its epochs apart.

    >>> common = TextAmount("hi", 1e10, 1, 1, 1, share=0.9)
    >>> lead_text([TextAmount("brx", 1e8, 1, 1, 1, share=0.1), common])
    1
    """
    return max(range(len(targets)), key=lambda index: targets[index].bytes / targets[index].share)


def plan_reading(
    targets: Sequence[TextAmount], replay: TextAmount | None, phases: Sequence[PhaseLength]
) -> ReadingPlan:
    """Return the shares with which no text exceeds its limit, and the epochs that follow.

    >>> hindi = TextAmount("hi", 10e9, 2e9, 1e6, 2e6, share=0.9)
    >>> bodo = TextAmount("brx", 0.1e9, 2e7, 1e4, 2e4, share=0.1, max_epochs=4)
    >>> planned = plan_reading([hindi, bodo], None, [PhaseLength("epochs", 1)])
    >>> [round(reading.epochs, 2) for reading in planned.targets]
    [1.0, 4.0]
    >>> [round(share, 3) for share in planned.shares]
    [0.962, 0.038]
    """
    total = sum(text.share for text in targets)
    targets = [replace(text, share=text.share / total) for text in targets]
    wanted = tuple(text.share for text in targets)
    free = [_target_bytes(phase, wanted, targets, replay) for phase in phases]
    limit = replay.limit() if replay else inf

    def read_with(factor: float) -> tuple[tuple[float, ...], list[float], Sequence[PhaseLength]]:
        """Return shares, bytes of target text by phase, and phases, for a factor on the odds."""
        changed = _with_odds(phases, factor)
        shares = _limited(targets, replay, changed)
        sizes = [_target_bytes(phase, shares, targets, replay) for phase in changed]
        return shares, sizes, changed

    def is_within(factor: float) -> bool:
        _, sizes, changed = read_with(factor)
        return _replayed(sizes, changed) <= limit

    factor = _largest(is_within, 1.0)
    shares, amounts, phases_read = read_with(factor)
    readings, asked = [], _asked_epochs(phases)
    for text, share in zip(targets, shares, strict=True):
        wanted_epochs = sum(free) * text.share / text.bytes
        epochs = sum(amounts) * share / text.bytes
        readings.append(TextReading(text, text.share, share, wanted_epochs, epochs, asked))
    replayed = None
    if replay is not None:
        replayed = _replay_reading(replay, (free, phases), (amounts, phases_read))
    return ReadingPlan(shares, factor, tuple(readings), replayed)


def expected_sequences(
    targets: Sequence[TextAmount], replay: TextAmount | None, phases: Sequence[PhaseLength]
) -> list[float]:
    """Return about how many sequences each phase reads, replay included.

    >>> hindi = TextAmount("hi", 1e6, 2e5, 500, 800)
    >>> english = TextAmount("en", 1e6, 2.5e5, 500, 1000)
    >>> counts = expected_sequences([hindi], english, [PhaseLength("bytes", 5e5, 0.2)])
    >>> [round(count) for count in counts]
    [525]
    """
    reading = plan_reading(targets, replay, phases)
    texts = [source.text for source in reading.targets]
    counts = []
    for phase in _with_odds(phases, reading.replay_factor):
        each = sum(
            share * text.per_byte("steps")
            for share, text in zip(reading.shares, texts, strict=True)
        )
        if replay is not None:
            each += phase.odds * replay.per_byte("steps")
        counts.append(_target_bytes(phase, reading.shares, texts, replay) * each)
    return counts


def sequence_tokens(
    block: int,
    targets: Sequence[TextAmount],
    replay: TextAmount | None,
    replay_share: float = 0.0,
) -> int:
    """Return the mean tokens of a sequence of at most `block`, without padding.

    It is `block` for streams, all of whose sequences but the last are full.

    >>> stream = TextAmount("hi", 1e6, 2e5, 500, 391)
    >>> documents = TextAmount("hi", 1e6, 2e5, 500, 500)
    >>> sequence_tokens(512, [stream], None), sequence_tokens(512, [documents], None)
    (512, 400)
    """
    total = sum(text.share for text in targets)
    weighted = [(text, (1 - replay_share) * text.share / total) for text in targets]
    if replay is not None:
        weighted.append((replay, replay_share))
    # `plan` has estimates, which need not be whole.
    if all(text.tokens > (text.sequences - 1.001) * block for text, _ in weighted):
        return block
    tokens = sum(weight * text.per_byte("tokens") for text, weight in weighted)
    sequences = sum(weight * text.per_byte("steps") for text, weight in weighted)
    return max(1, round(tokens / sequences))


def _replay_reading(
    replay: TextAmount,
    wanted: tuple[Sequence[float], Sequence[PhaseLength]],
    read: tuple[Sequence[float], Sequence[PhaseLength]],
) -> TextReading:
    shares, epochs = [], []
    for amounts, phases in (wanted, read):
        replayed = _replayed(amounts, phases)
        shares.append(replayed / max(replayed + sum(amounts), 1))
        epochs.append(replayed / replay.bytes)
    return TextReading(replay, *shares, *epochs)


def _limited(
    targets: Sequence[TextAmount], replay: TextAmount | None, phases: Sequence[PhaseLength]
) -> tuple[float, ...]:
    """Return the shares of the target texts with which none exceeds its limit, if there are such.

    A level x gives each text x * share bytes, at most those of its limit. The level that fits the
    budget is searched for.
    """
    wanted = tuple(text.share for text in targets)
    # A budget in epochs reads every text that often, so it overrides a lower limit.
    asked = _asked_epochs(phases)
    limits = [text.limit(asked) for text in targets]
    if asked:
        # A smaller share of this text would not lower its epochs: other texts would grow without
        # end.
        limits[lead_text(targets)] = inf

    def bytes_at(level: float) -> list[float]:
        return [min(level * text.share, limit) for text, limit in zip(targets, limits, strict=True)]

    def below_budget(level: float) -> bool:
        sizes = bytes_at(level)
        shares = tuple(size / sum(sizes) for size in sizes)
        budget = sum(_target_bytes(phase, shares, targets, replay) for phase in phases)
        return sum(sizes) <= budget

    # With enough for everyone, the shares stay exactly as set.
    total = sum(_target_bytes(phase, wanted, targets, replay) for phase in phases)
    fits = [total * text.share <= limit for text, limit in zip(targets, limits, strict=True)]
    if len(targets) == 1 or all(fits):
        return wanted
    highest = max(limit / text.share for text, limit in zip(targets, limits, strict=True))
    if highest == inf:
        # An unlimited text can take all of the budget; texts differ in tokens for a byte.
        highest = 1000 * total / min(text.share for text in targets)
    sizes = bytes_at(_largest(below_budget, highest))
    return tuple(size / sum(sizes) for size in sizes)


def _asked_epochs(phases: Sequence[PhaseLength]) -> float:
    return sum(phase.amount for phase in phases if phase.unit == "epochs")


def _largest(holds: Callable[[float], bool], highest: float) -> float:
    """Return the largest number up to `highest` for which a condition holds that holds below it."""
    if holds(highest):
        return highest
    low, high = 0.0, highest
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle and holds(middle):
            low = middle
        else:
            high = middle
    return low


def _target_bytes(
    phase: PhaseLength,
    shares: Sequence[float],
    targets: Sequence[TextAmount],
    replay: TextAmount | None,
) -> float:
    """Return the bytes of target text that a phase reads with these shares."""
    if phase.unit == "bytes":
        return phase.amount
    if phase.unit == "epochs":
        lead = lead_text(targets)
        return phase.amount * targets[lead].bytes / shares[lead]
    each = sum(
        share * text.per_byte(phase.unit) for share, text in zip(shares, targets, strict=True)
    )
    if phase.unit != "documents" and replay is not None:  # tokens and steps include replay
        each += phase.odds * replay.per_byte(phase.unit)
    amount = phase.amount * (phase.sequences_per_step if phase.unit == "steps" else 1)
    return amount / each


def _replayed(amounts: Sequence[float], phases: Sequence[PhaseLength]) -> float:
    total = 0.0
    for size, phase in zip(amounts, phases, strict=True):
        total += size * phase.odds
    return total


def _with_odds(phases: Sequence[PhaseLength], factor: float) -> list[PhaseLength]:
    """Return the phases with a factor on the odds of replay."""
    if factor == 1.0:  # exactly as they are
        return list(phases)
    changed = []
    for phase in phases:
        odds = phase.odds * factor
        changed.append(replace(phase, replay_share=odds / (1 + odds)))
    return changed
