"""Branch-and-merge: which steps of a phase each branch trains.

A phase with `branch_and_merge` trains in iterations. In each one, all branches start from the same
model, each trains on a slice of the text of its own, and the weights of all branches are merged
into the model of the next iteration (Alexandrov et al. 2024, arXiv 2407.08699).

A slice is a range of steps of the phase. Together, the slices are the text of the same phase
without `branch_and_merge`, once and in the same order. `branch_merge` merges the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.formatting import counted, size
from lingraft.registry import Settings
from lingraft.training.batch_rule import FEW_STEPS

MergeMethod = Literal["slerp", "linear"]


@dataclass(frozen=True)
class Branch:
    """The steps of a phase from `first` to before `end`, which one branch trains.

    `iteration` and `number`, that of the branch in its iteration, count from 0.
    """

    iteration: int
    number: int
    first: int
    end: int

    @property
    def steps(self) -> int:
        """The number of its steps."""
        return self.end - self.first

    @property
    def place(self) -> dict[str, int]:
        """What the log of a run says about its steps."""
        return {"iteration": self.iteration, "branch": self.number}


class BranchAndMerge(Settings):
    """Train branches on slices of the text and merge them, several times.

    The steps of a phase are cut into `iterations` times `branches` slices. In each iteration, all
    branches start from the same model. Each trains on its slice, with an optimizer and a
    learning-rate schedule of its own. Then the weights of all are merged, added rows included, into
    the model that the next iteration starts with. The reference reports that the weights then
    change less for the same gain in the target language, so that less is forgotten.

    Branches train one after another, with any strategy but `lora`, in one process or several.
    Weights that no branch changed, such as frozen columns, stay bit-identical. Merged weights in
    bfloat16 are rounded stochastically. `average_share`
    applies to the steps of each branch, and `merge_back` to the final model. The points of the
    held-out curve are at the ends of iterations.

    Two branches are those of the reference. Two iterations leave 50 steps for each branch where the
    default batch leaves 200 for the phase. Neither was tuned here.
    """

    reference: ClassVar[str] = "Alexandrov et al. 2024, arXiv 2407.08699"

    iterations: int = Field(
        default=2, ge=1, description="how often branches are trained and merged"
    )
    branches: int = Field(
        default=2, ge=2, description="branches of an iteration; each trains on a slice of the text"
    )
    merge: MergeMethod = Field(
        default="slerp",
        description="slerp: the middle of the arc between two branches, for each tensor; linear: "
        "the mean of all branches",
    )

    @model_validator(mode="after")
    def _check_merge(self) -> BranchAndMerge:
        if self.merge == "slerp" and self.branches != 2:
            msg = (
                f"merge: slerp merges two branches, got {self.branches}; set merge: linear, or "
                f"branches: 2"
            )
            raise ValueError(msg)
        return self

    @property
    def slices(self) -> int:
        """The number of all branches."""
        return self.iterations * self.branches

    def split(self, steps: int) -> list[Branch]:
        """Return the branches of a phase of `steps` steps, in the order of training.

        Their numbers of steps differ by at most 1.

        >>> for branch in BranchAndMerge().split(11):
        ...     print(branch.iteration, branch.number, branch.first, branch.end)
        0 0 0 2
        0 1 2 5
        1 0 5 8
        1 1 8 11
        """
        branches = []
        for index in range(self.slices):
            iteration, number = divmod(index, self.branches)
            first, end = index * steps // self.slices, (index + 1) * steps // self.slices
            branches.append(Branch(iteration, number, first, end))
        return branches

    def refusal(self, steps: int) -> str | None:
        """Return why a phase of `steps` steps cannot have these branches, or None if it can.

        >>> BranchAndMerge().refusal(4)
        >>> BranchAndMerge().refusal(3)  # doctest: +NORMALIZE_WHITESPACE
        'training.branch_and_merge: 4 branches cannot share 3 steps; set fewer iterations or
        branches, or a larger training.budget'
        """
        if steps >= self.slices:
            return None
        return (
            f"training.branch_and_merge: {self.slices} branches cannot share "
            f"{counted(steps, 'step')}; set fewer iterations or branches, or a larger "
            "training.budget"
        )

    def nearest_merge(self, step: int, steps: int) -> int:
        """Return the end of an iteration that is nearest to a step, of a phase of `steps` steps.

        >>> [BranchAndMerge().nearest_merge(step, 11) for step in (1, 6, 9)]
        [5, 5, 11]
        """
        ends = [one.end for one in self.split(steps) if one.number + 1 == self.branches]
        return min(ends, key=lambda end: abs(end - step))

    def describe(self, steps: int) -> str:
        """Return the iterations and branches of a phase of `steps` steps, as part of a sentence.

        >>> BranchAndMerge().describe(400)
        '2 iterations of 2 branches with 100 steps each, merged by slerp'
        >>> BranchAndMerge(iterations=1, branches=3, merge="linear").describe(100)
        '1 iteration of 3 branches with about 33 steps each, merged by linear'
        """
        about = "about " if steps % self.slices else ""
        return (
            f"{counted(self.iterations, 'iteration')} of {self.branches} branches with "
            f"{about}{counted(steps // self.slices, 'step')} each, merged by {self.merge}"
        )

    def plan_note(self, parameters: int) -> str:
        """Return a line for `plan` about what branches take, for a model of this size.

        >>> BranchAndMerge().plan_note(6_800_000_000)  # doctest: +NORMALIZE_WHITESPACE
        'branch_and_merge: up to 4 more models in float32 on the disk while it trains (109 GB);
        about the time and memory of the same phase without it'
        """
        # Of two iterations: the model that it starts with, and each branch but the one in memory.
        models = 2 * self.branches
        return (
            f"branch_and_merge: up to {models} more models in float32 on the disk while it trains "
            f"({size(models * 4 * parameters)}); about the time and memory of the same phase "
            f"without it"
        )

    def warning(self, steps: int) -> str | None:
        """Return a warning if the branches of a phase of `steps` steps are short.

        >>> BranchAndMerge().warning(200)
        >>> BranchAndMerge().warning(100)  # doctest: +NORMALIZE_WHITESPACE
        'training.branch_and_merge: a branch has 25 steps, which are few (4 branches share 100
        steps); set fewer iterations or branches, or a larger training.budget'

        With fewer steps than branches, training raises an error; then the warning announces it.
        """
        if refusal := self.refusal(steps):
            return f"the training will be refused: {refusal}"
        each = steps // self.slices
        # A branch is a training of its own, with a new optimizer and a whole schedule.
        if each >= FEW_STEPS:
            return None
        return (
            f"training.branch_and_merge: a branch has {counted(each, 'step')}, which are few "
            f"({self.slices} branches share {counted(steps, 'step')}); set fewer iterations or "
            f"branches, or a larger training.budget"
        )
