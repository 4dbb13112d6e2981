"""The training of a recipe before it has run: its steps, tokens and epochs, and the plan's lines.

Where all text is packed, the steps are counted as the training does it. Otherwise they follow from
amounts of text, which are estimates where the text is not packed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lingraft.packing.epoch_limits import plan_reading
from lingraft.packing.reading_plan import PhaseLength, ReadingPlan, TextAmount, epochs_line
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.stage_builders import target_roles, target_shares
from lingraft.pipeline.training_builders import training_text
from lingraft.pipeline.training_stages import training_inputs
from lingraft.recipe import Recipe
from lingraft.store import Store
from lingraft.training.execution import Execution
from lingraft.training.job import Job
from lingraft.training.phase_outline import (
    CountedSteps,
    Texts,
    expected_steps,
    few_steps_lines,
    outline_lines,
    outline_phase,
    phase_lengths,
)
from lingraft.training.phase_steps import TrainingSteps


@dataclass(frozen=True)
class PlannedTraining:
    """The training of a recipe, as far as it is known.

    `roles` names the texts that it reads (target, replay), and `packed` gives the bytes, tokens and
    sequences of each where they are known. Sequences have at most `block` tokens. `parameters` is
    the number of parameters of the adapted model, 0 if it is not known, and `kind` its model type
    (such as llama). `counted` are the steps over packed text, None if some is not packed yet.
    """

    recipe: Recipe
    roles: Sequence[str]
    packed: Mapping[str, TextAmount]
    block: int
    parameters: int
    kind: str
    counted: TrainingSteps | None = None

    @cached_property
    def texts(self) -> Texts | None:
        """The amounts of the texts; None if the size of one is not known."""
        if any(role not in self.packed for role in self.roles):
            return None
        targets = [self.packed[role] for role in target_roles(self.recipe)]
        shares = target_shares(self.recipe, [round(text.bytes) for text in targets])
        shared = [replace(text, share=share) for text, share in zip(targets, shares, strict=True)]
        return shared, self.packed.get("replay")

    @cached_property
    def lengths(self) -> list[PhaseLength]:
        """The length of each phase."""
        portion = self.recipe.replay.portion if self.recipe.replay else 0.0
        phases = self.recipe.training.phases
        shares = [phase.share_replayed(portion) for phase in phases]
        return phase_lengths(phases, shares, self.block, self.parameters, self.texts)

    @cached_property
    def reading(self) -> ReadingPlan | None:
        """How often each text is read; None if the size of a text is not known."""
        return self.texts and plan_reading(*self.texts, self.lengths)

    @cached_property
    def steps(self) -> Sequence[CountedSteps] | None:
        """The steps of each phase, counted or estimated; None if an unknown size decides it."""
        if self.counted is not None:
            return self.counted.phases
        # How many tokens a step has follows the size of the model.
        if not self.parameters and any(length.unit == "steps" for length in self.lengths):
            return None
        return expected_steps(self.lengths, self.texts)

    @property
    def tokens(self) -> int | None:
        """About how many tokens it reads; None if an unknown size decides it."""
        if self.reading is not None:
            return round(self.reading.tokens)
        return sum(one.sequences for one in self.steps) * self.block if self.steps else None

    def average(self, values: Sequence[float]) -> float:
        """Return the mean of a number of each phase over the tokens of all phases."""
        lengths = [one.sequences for one in self.steps] if self.steps else [1.0] * len(values)
        total = sum(value * length for value, length in zip(values, lengths, strict=True))
        return total / (sum(lengths) or 1.0)

    @property
    def reference_tokens(self) -> int:
        """The tokens of replay text that the model before training reads, too."""
        total = 0.0
        for index, (phase, length) in enumerate(
            zip(self.recipe.training.phases, self.lengths, strict=True)
        ):
            if not phase.replay_kl:
                continue
            if self.texts is None:
                # About the share of the tokens is that of the bytes.
                tokens = self.steps[index].sequences * self.block if self.steps else 0
                total += length.replay_share * tokens
            elif replay := plan_reading(*self.texts, [length]).replay:
                total += replay.epochs * replay.text.tokens
        return round(total)

    def lines(self, epochs: Mapping[str, float] | None) -> list[str]:
        """Return the lines of the plan; `epochs` are those that were counted, after training."""
        lines: list[str] = []
        if self.reading is not None:
            lines = [epochs_line(epochs or self.reading.epochs)]
            # The warnings of counted steps include those of the outline.
            warnings = self.counted.warnings if self.counted else self.reading.warnings
            lines += [f"warning: {line}" for line in warnings]
        lines += self._outline()
        for phase in self.recipe.training.phases:
            lines += phase.plan_notes(self.parameters)
        return lines

    def _outline(self) -> list[str]:
        """Return the steps, the batch and the rates of each phase, as far as they are known."""
        phases = self.recipe.training.phases
        if not phases or not self.parameters:
            return []
        if self.steps is None:
            return ["training: the steps are known once the sizes of the texts are"]
        outlines = []
        for phase, of_phase in zip(phases, self.steps, strict=True):
            outlines.append(outline_phase(phase, of_phase, self.kind, self.parameters))
        few: list[str] = []
        if self.counted is None:
            few = few_steps_lines(phases, self.steps, self.recipe.training.packing, self.block)
        return [*outline_lines(outlines), *(f"warning: {line}" for line in few)]


def count_steps(
    graph: Graph, recipe: Recipe, store: Store, parameters: int
) -> TrainingSteps | None:
    """Return the steps over text that is packed already, `None` if some of it is not.

    `parameters` is the number of parameters of the adapted model.
    """
    nodes = training_inputs(recipe, graph.packing)
    # The batch follows the size of the model, which `embeddings` knows.
    needed = (graph.embeddings, *nodes.values())
    if not all(node.is_cached(store) for node in needed):
        return None
    folders = {role: store.folder(node.stage) for role, node in nodes.items()}
    text, unused = training_text(recipe, folders), Path()
    job = Job(unused, text, recipe.training, unused, (), recipe.seed, Execution(), None)
    return job.steps(parameters)
