"""Texts that are read more than once: limits of epochs, shares, and the order of sequences."""

import io
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.errors import RecipeError
from lingraft.packing.blocks import Blocks, PackingSummary
from lingraft.packing.epoch_limits import lead_text, plan_reading
from lingraft.packing.epoch_order import EpochOrder, permutation
from lingraft.packing.pack import _DocumentWriter, _StreamWriter
from lingraft.packing.reading_plan import PhaseLength, TextAmount
from lingraft.training.phase_steps import PhaseSteps, TextSource, TrainingText, plan_steps

BLOCK, END, FIRST = 8, 1, 10
"""Tokens of a sequence, the separator, and the id of which all of the first document consists."""


def blocks_of(lengths: list[int], layout: str = "stream") -> Blocks:
    """Return documents of these lengths in memory; the tokens of a document are its number."""
    tokens, spans = io.BytesIO(), io.BytesIO()
    kind = _StreamWriter if layout == "stream" else _DocumentWriter
    writer = kind(tokens, spans, BLOCK, None, END)
    for number, length in enumerate(lengths):
        ids = np.full(length, FIRST + number, dtype=np.int64)
        writer.add(ids, np.ones(length, dtype=np.int64))
    writer.close()
    counts = (writer.sequences, writer.tokens, writer.bytes, writer.documents)
    blocks = Blocks(Path(), PackingSummary(BLOCK, *counts, None, END))
    blocks.__dict__["tokens"] = np.frombuffer(tokens.getvalue(), dtype=np.uint32)
    blocks.__dict__["spans"] = np.frombuffer(spans.getvalue(), dtype=np.int64).reshape(-1, 4)
    return blocks


def documents(random: Random) -> list[int]:
    """Return the lengths of a few or many documents, short or of several sequences."""
    longest = random.choice([5, 40])
    return [random.randint(1, longest) for _ in range(random.randint(1, 30))]


@pytest.mark.parametrize(("unit", "amount"), [("epochs", 1.0), ("epochs", 3.0), ("bytes", 0)])
def test_phases_of_parts_read_what_one_phase_would(unit: str, amount: float) -> None:
    """A tenth and nine tenths end with the same sequence, so an epoch in parts repeats nothing."""
    for count in range(3, 100):
        blocks = blocks_of([BLOCK - 1] * count)
        whole = amount or blocks.summary.bytes - 3
        text = TrainingText((TextSource(blocks, "hi"),), keeps_epochs_apart=amount == 1.0)

        def read(*parts: float, text=text, whole=whole) -> int:
            lengths = [PhaseLength(unit, part * whole, 0.0, 4) for part in parts]
            phases = plan_steps(text, lengths, 0).phases
            assert all(phase.sequences for phase in phases)
            return sum(phase.sequences for phase in phases)

        expected = read(1.0)
        assert read(0.1, 0.9) == read(0.3, 0.3, 0.4) == expected


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=True))
def test_no_step_has_two_epochs_of_a_document(random):
    """Also not parts of a long document; each epoch has every sequence once, in every phase."""
    limit, seed = random.choice([None, 1.0, 4.0]), random.randint(0, 5)
    sources = []
    for number in range(random.randint(1, 3)):
        blocks = blocks_of(documents(random), random.choice(["stream", "documents"]))
        sources.append(TextSource(blocks, f"text{number}", random.uniform(0.02, 1), limit))
    replayed = TextSource(blocks_of(documents(random)), "replay", random.uniform(0, 0.7), limit)
    text = TrainingText(tuple(sources), replayed, keeps_epochs_apart=True)
    phases = [(random.randint(1, 30), random.randint(1, 12)) for _ in range(random.randint(1, 2))]
    lengths = [PhaseLength("steps", steps, replayed.share, size) for steps, size in phases]
    most = max(len(source.blocks) for source in sources)
    try:
        planned = plan_steps(text, lengths, seed)
    except RecipeError:
        # Only if no text has many more sequences than a step: each one blocks up to 7 others,
        # which have parts of the same documents.
        planned = None
    if planned is None:
        assert most <= 8 * max(size for _, size in phases)
        return
    read = defaultdict(Counter)
    for phase in planned.phases:
        for step in range(phase.steps):
            check_step(text, phase, step, read)
    for number, counts in read.items():
        every = [counts[index] for index in range(len(text.sources[number].blocks))]
        assert max(every) - min(every) <= 1


def check_step(text: TrainingText, phase: PhaseSteps, step: int, read: dict) -> None:
    """Check one step; `read` counts how often each sequence was read before it."""
    first = step * phase.sequences_per_step
    count = min(phase.sequences_per_step, phase.sequences - first)
    epochs = defaultdict(set)
    drawn, indexes = phase.mixture.draw(first, count)
    for number, index in zip(drawn.tolist(), indexes.tolist(), strict=True):
        epoch = read[number][index]
        read[number][index] += 1
        # Without the context id, which is not predicted.
        for document in set(text.sources[number].blocks.sequence(index)[1:].tolist()) - {END}:
            epochs[number, document].add(epoch)
    assert all(len(seen) == 1 for seen in epochs.values())


@pytest.mark.parametrize("window", [1, 3, 12])
def test_the_first_epoch_is_a_permutation_that_steps_do_not_change(window):
    """A text that is read at most once has the order of earlier versions."""
    order = EpochOrder(blocks_of([BLOCK - 1] * 30), window, 7, 0)
    assert order.order(0).tolist() == permutation(30, 7, 0, 0).tolist()


def test_an_order_does_not_depend_on_what_was_asked_before():
    """A resumed run begins in a later epoch and has the same order."""
    blocks = blocks_of([3, 9, 30, 1] * 20)
    order = EpochOrder(blocks, 6, 7, 0)
    orders = [order.order(epoch).tolist() for epoch in range(6)]
    assert EpochOrder(blocks, 6, 7, 0).order(5).tolist() == orders[5]
    assert order.order(2).tolist() == orders[2]
    assert all(former != latter for former, latter in pairwise(orders))


AMOUNT = st.floats(1e3, 1e12)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(AMOUNT, st.floats(0.01, 1), st.floats(1, 9)), min_size=2, max_size=5),
    st.tuples(AMOUNT, st.floats(0, 0.8), st.floats(1, 9)),
    st.sampled_from(["tokens", "bytes", "documents", "steps", "epochs"]),
    st.floats(0.01, 20),
)
def test_no_text_passes_its_limit_unless_all_do(texts, replay, unit, part):
    """The budget is met; texts below their limits keep their shares relative to each other."""
    amounts = []
    for number, (size, share, limit) in enumerate([*texts, (replay[0], 1.0, replay[2])]):
        counts = (size / 5, size / 5000, size / 5120)
        amounts.append(TextAmount(str(number), size, *counts, share, limit))
    *targets, replayed = amounts
    total = sum(text.bytes for text in targets)
    amount = part if unit == "epochs" else part * total / {"bytes": 1, "tokens": 5}.get(unit, 5000)
    planned = plan_reading(targets, replayed, [PhaseLength(unit, amount, replay[1], 2)])
    assert sum(planned.shares) == pytest.approx(1)
    assert planned.replay.epochs <= replay[2] * (1 + 1e-6)
    over = [one.epochs > one.text.max_epochs * (1 + 1e-6) for one in planned.targets]
    if unit == "epochs":
        lead = planned.targets[lead_text([one.text for one in planned.targets])]
        assert lead.epochs == pytest.approx(amount)
        assert all(
            one.epochs <= max(one.text.max_epochs, amount) * (1 + 1e-6) for one in planned.targets
        )
    else:
        assert all(over) or not any(over)
    below = [one for one in planned.targets if one.epochs < one.text.max_epochs * (1 - 1e-6)]
    if not any(over):
        ratios = [one.share / one.wanted_share for one in below]
        assert not ratios or max(ratios) == pytest.approx(min(ratios), rel=1e-4)


@pytest.mark.parametrize("asked", [3.0, 4.0, 6.0])
@pytest.mark.parametrize("limit", [None, 50.0])
def test_a_budget_in_epochs_at_a_limit_leaves_other_shares_as_they_are(asked, limit):
    """The text whose epochs are counted has its share, and one below its limit is not read more."""
    texts = [
        TextAmount("counted", 1e8, 1, 1, 1, share=0.7, max_epochs=4),
        TextAmount("scarce", 5e6, 1, 1, 1, share=0.15, max_epochs=4),
        TextAmount("free", 1e7, 1, 1, 1, share=0.15, max_epochs=limit),
    ]
    planned = plan_reading(texts, None, [PhaseLength("epochs", asked)])
    epochs = planned.epochs
    assert epochs["counted"] == pytest.approx(asked)
    assert epochs["scarce"] == pytest.approx(max(asked, 4))
    assert epochs["free"] * 1e7 / 0.15 == pytest.approx(asked * 1e8 / 0.7)
    (line,) = [line for line in planned.warnings if "counted" in line] or [""]
    assert ("is read for 6 epochs, more than its max_epochs (4)" in line) == (asked > 4)


def test_epochs_of_a_single_document_are_refused_if_the_budget_counts_them():
    """Its share cannot be lowered: the budget is a number of its epochs."""
    counted, other = blocks_of([200]), blocks_of([7] * 20)
    text = TrainingText((TextSource(counted, "hi"), TextSource(other, "ta")), None, True)
    assert plan_steps(text, [PhaseLength("epochs", 1, 0.0, 4)], 0)
    with pytest.raises(RecipeError, match="text in hi: 1 documents"):
        plan_steps(text, [PhaseLength("epochs", 2, 0.0, 4)], 0)


def warnings_of(amounts, budget):
    """Return the warnings of target texts of 1 MB with these shares and a limit of 4 epochs."""
    texts = []
    for number, share in enumerate(amounts):
        texts.append(TextAmount(f"text{number}", 1e6, 2e5, 1e3, 2e3, share, max_epochs=4))
    return plan_reading(texts, None, [budget]).warnings


def test_a_text_over_its_limit_is_not_said_to_have_its_place_taken():
    """Where all texts exceed their limits, each warning says so, and none that others have more."""
    warnings = warnings_of([0.9, 0.1], PhaseLength("bytes", 1e8))
    assert len(warnings) == 2
    for warning in warnings:
        assert "is read for 50 epochs, more than its max_epochs (4)" in warning
        assert "more than all target texts within their limits" in warning


def test_a_budget_in_epochs_over_the_limit_is_named_as_the_cause():
    """A budget of more epochs than `max_epochs` is carried out, and the warning names it."""
    (warning,) = warnings_of([1.0], PhaseLength("epochs", 10))
    assert "is read for 10 epochs" in warning
    assert "training.budget asks for 10 epochs" in warning
