"""The tasks of a study and their order: shared stages first, each built once, then each cell.

A stage that two or more cells need is a task, built with the recipe of the first of these cells.
The rest of a cell (its own stages and its run folder) is one task, which waits for the shared
stages. So no stage is built twice with any number of workers, and a cell stays on one worker.

If a shared stage fails, the cells that need it fail with the same error, and the others continue. A
training that can continue from a shorter training in another cell waits until that one has ended,
even if it failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import pairwise

from lingraft.pipeline import Graph
from lingraft.pipeline.stage_node import StageNode
from lingraft.recipe import Recipe
from lingraft.store import Store, digest


@dataclass(frozen=True)
class StudyTask:
    """A task for a worker: the shared stage with this `key`, or the rest of a cell if it is `None`.

    The task waits for the tasks in `needs` and `after`. It fails if one in `needs` fails.
    """

    name: str
    title: str
    recipe: Recipe
    key: str | None
    needs: frozenset[str]
    after: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Built:
    """A stage that was built: its name, its key and the seconds it took."""

    stage: str
    key: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The result of a task: the error in one line if it failed, and the stages that were built.

    `trace` is the stack trace of an error that lingraft did not expect.
    """

    task: str
    error: str = ""
    trace: str = ""
    built: tuple[Built, ...] = ()
    seconds: float = 0.0


@dataclass
class StudySchedule:
    """The tasks to run, and the outcomes of those that have ended."""

    tasks: Sequence[StudyTask]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _started: set[str] = field(default_factory=set)

    def take(self) -> StudyTask | None:
        """Return a task that can start now, and mark it as started; None if there is none."""
        for task in self.tasks:
            if task.name not in self._started and task.needs | task.after <= self.outcomes.keys():
                self._started.add(task.name)
                return task
        return None

    def finish(self, outcome: Outcome) -> list[Outcome]:
        """Store an outcome; return it with the outcomes of the tasks that fail because of it."""
        self.outcomes[outcome.task] = outcome
        ended = [outcome]
        # Tasks that need a failed one never start; those that need these fail in turn.
        if outcome.error:
            for task in self.tasks:
                if outcome.task in task.needs and task.name not in self.outcomes:
                    self._started.add(task.name)
                    ended += self.finish(Outcome(task.name, outcome.error, outcome.trace))
        return ended

    @property
    def finished(self) -> bool:
        """Say whether every task has an outcome."""
        return len(self.outcomes) == len(self.tasks)


def build_schedule(
    graphs: Mapping[str, Graph], recipes: Mapping[str, Recipe], store: Store
) -> StudySchedule:
    """Return the tasks for these cells: shared stages that are not cached, then the cells."""
    uses: Counter[str] = Counter()
    for graph in graphs.values():
        uses.update({node.stage.key for node in graph})
    shared: dict[str, StudyTask] = {}
    cells = []
    for name, graph in graphs.items():
        needs: set[str] = set()
        for node in graph:
            key = node.stage.key
            # The inputs of a stage come before it in its graph, so that their tasks exist already.
            if uses[key] > 1 and key not in shared and not node.is_cached(store):
                below = frozenset(_input_keys(node) & shared.keys())
                shared[key] = StudyTask(key, node.title, recipes[name], key, below)
            if key in shared:
                needs.add(key)
        cells.append(StudyTask(name, name, recipes[name], None, frozenset(needs)))
    tasks = [*shared.values(), *cells]
    after = _longer_after_shorter(graphs, recipes, shared.keys())
    return StudySchedule([replace(task, after=after.get(task.name, frozenset())) for task in tasks])


def _longer_after_shorter(
    graphs: Mapping[str, Graph], recipes: Mapping[str, Recipe], shared: AbstractSet[str]
) -> dict[str, frozenset[str]]:
    """Return for each task with a training the task with the next shorter one, if there is one.

    The longer training can then continue from the checkpoints of the shorter one.
    """
    lengths: dict[str, dict[str, float]] = {}
    for name, graph in graphs.items():
        beginning_and_length = recipes[name].training.beginning()
        if graph.training is not None and beginning_and_length:
            beginning, length = beginning_and_length
            group = digest([dict(graph.training.stage.inputs), recipes[name].seed, beginning])
            key = graph.training.stage.key
            lengths.setdefault(group, {})[key if key in shared else name] = length
    after = {}
    for group_lengths in lengths.values():
        chain = sorted(group_lengths, key=group_lengths.__getitem__)
        for shorter, longer in pairwise(chain):
            after[longer] = frozenset({shorter})
    return after


def _input_keys(node: StageNode) -> set[str]:
    """Return the keys of all stages that a stage depends on."""
    keys = set()
    for below in node.inputs.values():
        keys |= {below.stage.key, *_input_keys(below)}
    return keys
