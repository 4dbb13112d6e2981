"""The rule for the batch, the learning rates and the warm-up that a recipe does not set.

- Batch: a number of tokens per step that grows with the model's size, but at most a two-hundredth
  of the training, so that a small budget still has about 200 steps. It is never less than one
  sequence.
- Learning rates: the table of the strategy by model size holds from 2,048 tokens per step on. A
  smaller batch lowers them by the square root of the ratio (Malladi et al. 2022, arXiv 2205.10287,
  for Adam). A larger one does not raise them.
- Warm-up: `Schedule.rise`.

The batch up to which larger steps save steps grows as the loss falls (McCandlish et al. 2018, arXiv
1812.06162). The rule does not read the loss, because it is not known before the training. The batch
by size is below that limit but at the start of a 7B training in a new language. docs/decisions.md
has the derivation and what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lingraft.formatting import counted, model_size, size
from lingraft.strategies.base import interpolate_by_size, measured_near

# Small steps at 8M, because a phase over little text must have enough of them: 88 steps over 1 MB
# of Hindi gained 0.320 bits per byte, 44 steps 0.260 (docs/decisions.md).
BATCH = (2048, 131072)
"""Default tokens per step at 8M and at 7B parameters, if the budget is large enough."""

RATES_BATCH = BATCH[0]
"""Tokens per step from which a strategy's default learning rates apply unchanged, at every size.

When a larger model needed a larger batch for them, SmolLM2-135M trained at 0.15 of these rates in
steps of 256 tokens. At 0.35, as now, it ended 0.037 bits per byte lower after 0.1 MB of Hindi
(benchmarks/results.md).
"""

MEASURED_SIZES = (8.6e6,)
"""The sizes of the models on which the default batch was compared with others."""

DEFAULT_STEPS = 200
"""The least number of steps that the default batch leaves, where the budget allows it."""

FEW_STEPS = 50
"""A training of fewer steps is warned of."""

MIN_BLOCK = 64
"""The shortest sequences that are proposed for more steps, in tokens."""

MAX_EPOCHS = 4
"""Up to so many epochs, repeated text is worth almost as much as new text (arXiv 2305.16264)."""


def sequences_by_size(block: int, parameters: int) -> int:
    """Return the sequences per step for a model size, whatever the budget.

    >>> sequences_by_size(512, 8_000_000), sequences_by_size(512, 7_000_000_000)
    (4, 256)
    """
    return max(1, round(interpolate_by_size(*BATCH, parameters) / block))


def default_sequences(block: int, parameters: int, expected: float | None) -> int:
    """Return the default sequences per step.

    `expected` are the sequences of the whole training; None if they do not depend on the batch, as
    with a budget in steps.

    >>> [default_sequences(512, 8_000_000, expected) for expected in (100, 700, 10_000, None)]
    [1, 3, 4, 4]
    """
    by_size = sequences_by_size(block, parameters)
    if expected is None:
        return by_size
    return max(1, min(by_size, int(expected / DEFAULT_STEPS)))


def rate_factor(sequences_per_step: int, block: int) -> float:
    """Return the factor on default learning rates for a batch.

    >>> rate_factor(1, 512), rate_factor(4, 512), rate_factor(64, 512)
    (0.5, 1.0, 1.0)
    """
    ratio = sequences_per_step / max(1, round(RATES_BATCH / block))
    # Not above 1: at 8M, higher rates than those of the table cost more English than they gain.
    return float(f"{min(1.0, math.sqrt(ratio)):.3g}")


def batch_reason(
    sequences_per_step: int, block: int, parameters: int, *, batch_tokens: int | None = None
) -> str:
    """Return why a step has so many sequences; `batch_tokens` is what the recipe sets.

    >>> batch_reason(1, 512, 8_000_000)  # doctest: +NORMALIZE_WHITESPACE
    'one sequence, the least; 2,048 at 8M parameters, less for 200 steps; measured at 8.6M
    parameters'
    >>> batch_reason(256, 512, 7_000_000_000)
    'by the size of 7B parameters; not measured at this size'
    >>> batch_reason(2, 252, 8_000_000, batch_tokens=512)
    '2 sequences of 252 tokens on average, for the 512 tokens that the recipe sets'
    """
    if batch_tokens is not None:
        if batch_tokens == sequences_per_step * block:
            return "as the recipe says"
        sequences = f"{counted(sequences_per_step, 'sequence')} of {block:,} tokens on average"
        return f"{sequences}, for the {batch_tokens:,} tokens that the recipe sets"
    by_size = sequences_by_size(block, parameters)
    model, evidence = model_size(parameters), measured_near(parameters, MEASURED_SIZES)
    if sequences_per_step >= by_size:
        return f"by the size of {model} parameters; {evidence}"
    least = "one sequence, the least; " if sequences_per_step == 1 else ""
    smaller = f"{by_size * block:,} at {model} parameters, less for {DEFAULT_STEPS} steps"
    return f"{least}{smaller}; {evidence}"


def few_steps_warning(
    steps: int,
    sequences: float,
    block: int,
    budgets: Sequence[tuple[str, float]],
    *,
    shortens: bool = True,
    sets_batch: bool = False,
) -> str | None:
    """Return a warning of a training of few steps, with what gives more.

    `sequences` are those that the budgets ask for, of `block` tokens: below 1 for less text than a
    sequence holds. `budgets` are the units and amounts of the phases. `shortens` is whether
    sequences may be proposed to be shorter, and `sets_batch` whether the recipe sets the batch,
    which then has to follow.

    >>> few_steps_warning(13, 400, 256, [("bytes", 4e5)])
    'training has 13 steps, which are few: training.batch_tokens: 512 gives 200'
    >>> few_steps_warning(20, 20, 2048, [("bytes", 4e5)])  # doctest: +NORMALIZE_WHITESPACE
    'training has 20 steps, which are few: training.packing.block_size: 204 gives about 200;
    training.budget: 4 MB gives about 200'
    >>> few_steps_warning(3, 3, 2048, [("bytes", 3e4)])  # doctest: +NORMALIZE_WHITESPACE
    'training has 3 steps, which are few: training.packing.block_size: 64 gives about 96;
    training.budget: 2 MB gives about 200'
    >>> few_steps_warning(
    ...     20, 20, 2048, [("epochs", 1)], sets_batch=True
    ... )  # doctest: +NORMALIZE_WHITESPACE
    'training has 20 steps, which are few: training.packing.block_size: 204 and
    training.batch_tokens: 204 give about 200; 10 times as much text gives about 200'
    >>> few_steps_warning(5, 20, 256, [("epochs", 1)])  # doctest: +NORMALIZE_WHITESPACE
    'training has 5 steps, which are few: training.batch_tokens: 256 gives 20, and 10 times as
    much text then gives about 200'
    >>> few_steps_warning(1, 0.1, 2048, [("bytes", 1e3)])  # doctest: +NORMALIZE_WHITESPACE
    'training has 1 step, which are few: training.packing.block_size: 64 gives about 3;
    training.budget: 2 MB gives about 200'
    >>> few_steps_warning(2, 8, 256, [("steps", 2)])
    'training has 2 steps, which are few: training.budget: 200 steps gives 200'
    """
    if not 0 < steps < FEW_STEPS:
        return None
    few = f"training has {counted(steps, 'step')}, which are few"
    if any(unit == "steps" for unit, _ in budgets):
        return f"{few}: {_longer(budgets, DEFAULT_STEPS / steps)} gives {DEFAULT_STEPS}"
    per_step = max(1, int(sequences / DEFAULT_STEPS))
    possible = sequences / per_step
    reached = math.ceil(possible)
    batch = ""
    where = "training.batch_tokens:" if len(budgets) == 1 else "batch_tokens of each phase:"
    if reached > steps:
        batch = f"{where} {per_step * block} gives {reached}"
    if reached >= 0.9 * DEFAULT_STEPS:
        return f"{few}: {batch}"
    longer = _longer(budgets, DEFAULT_STEPS / possible)
    if batch:
        return f"{few}: {batch}, and {longer} then gives about {DEFAULT_STEPS}"
    # A step is never less than a sequence, so that shorter sequences allow more steps.
    shorter = max(MIN_BLOCK, int(sequences * block / DEFAULT_STEPS))
    reached = min(DEFAULT_STEPS, int(sequences * block / shorter))
    rows = ""
    if shortens and reached > steps:
        gives = f"and {where} {shorter} give" if sets_batch else "gives"
        rows = f"training.packing.block_size: {shorter} {gives} about {reached}; "
    return f"{few}: {rows}{longer} gives about {DEFAULT_STEPS}"


def _longer(budgets: Sequence[tuple[str, float]], times: float) -> str:
    """Return the setting for a training that is so many times as long."""
    if len(budgets) > 1:
        return f"{times:.2g} times the budget of each phase"
    unit, amount = budgets[0]
    longer = float(f"{amount * times:.2g}")
    # Text that is read more than four times is worth little (`packing.epoch_limits`).
    if unit == "epochs" and longer > MAX_EPOCHS:
        return f"{times:.2g} times as much text"
    written = size(longer) if unit == "bytes" else f"{longer:.15g} {unit}"
    return f"training.budget: {written}"
