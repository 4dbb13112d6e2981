"""What is to be done in which order: stages that cells share come first and are made once, then each cell on its own.

Every node of every cell has a key. A key that two cells or more ask for is a task of its own, made with the recipe of
the first of them; the rest of a cell (its own stages, and putting its run folder together) is one task, which waits
for the shared ones below it. So no stage is ever made twice, however many workers there are, and a cell stays in one
place. Where a shared stage fails, the cells above it fail with the same words and the others go on. A training that
can go on from a shorter one of another cell waits until that one is over, however it ended.
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
    """Something for a worker: one shared stage by its key, or (`key` is None) the whole of what is left of a cell.

    It builds on what it `needs`; what is `after` another task only waits for it.
    """

    name: str
    title: str
    recipe: Recipe
    key: str | None
    needs: frozenset[str]
    after: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Built:
    """A stage that was made: its name, its key and how long that took."""

    stage: str
    key: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of a task; `error` is one line for people, `trace` more for a bug report."""

    task: str
    error: str = ""
    trace: str = ""
    built: tuple[Built, ...] = ()
    seconds: float = 0.0


@dataclass
class StudySchedule:
    """Tasks that are to be done, and how far they are."""

    tasks: Sequence[StudyTask]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)

    def take(self) -> StudyTask | None:
        """Return a task whose needs are met, and count it as begun; None where there is none just now."""
        for task in self.tasks:
            if task.name not in self._begun and task.needs | task.after <= self.outcomes.keys():
                self._begun.add(task.name)
                return task
        return None

    def finish(self, outcome: Outcome) -> list[Outcome]:
        """Note an outcome; return it with those of the tasks that fail because of it."""
        self.outcomes[outcome.task] = outcome
        noted = [outcome]
        if outcome.error:
            for task in self.tasks:
                if outcome.task in task.needs and task.name not in self.outcomes:
                    self._begun.add(task.name)
                    noted += self.finish(Outcome(task.name, outcome.error, outcome.trace))
        return noted

    @property
    def finished(self) -> bool:
        """Say whether every task has an outcome."""
        return len(self.outcomes) == len(self.tasks)


def schedule_of(
    graphs: Mapping[str, Graph], recipes: Mapping[str, Recipe], store: Store
) -> StudySchedule:
    """Return the tasks of cells, by name, that are not finished: shared stages that are not in the store, and cells."""
    asked = Counter(key for graph in graphs.values() for key in {node.stage.key for node in graph})
    shared: dict[str, StudyTask] = {}
    cells = []
    for name, graph in graphs.items():
        below: set[str] = set()
        for node in graph:
            key = node.stage.key
            if asked[key] > 1 and key not in shared and not node.is_cached(store):
                shared[key] = StudyTask(
                    key, node.title, recipes[name], key, frozenset(_below(node) & shared.keys())
                )
            if key in shared:
                below.add(key)
        cells.append(StudyTask(name, name, recipes[name], None, frozenset(below)))
    tasks = [*shared.values(), *cells]
    after = _longer_after_shorter(graphs, recipes, {task.name for task in tasks if task.key})
    return StudySchedule([replace(task, after=after.get(task.name, frozenset())) for task in tasks])


def _longer_after_shorter(
    graphs: Mapping[str, Graph], recipes: Mapping[str, Recipe], shared: AbstractSet[str]
) -> dict[str, frozenset[str]]:
    """Return, for tasks that train, the task whose training is the next shorter one that they can go on from."""
    lengths: dict[str, dict[str, float]] = {}
    for name, graph in graphs.items():
        if graph.training is not None and (found := recipes[name].training.beginning()):
            beginning, length = found
            group = digest([dict(graph.training.stage.inputs), recipes[name].seed, beginning])
            key = graph.training.stage.key
            lengths.setdefault(group, {})[key if key in shared else name] = length
    chains = (
        sorted(group, key=lambda task, group=group: group[task])  # type: ignore[misc]
        for group in lengths.values()
    )
    return {longer: frozenset({shorter}) for chain in chains for shorter, longer in pairwise(chain)}


def _below(node: StageNode) -> set[str]:
    """Return the keys of everything that a node builds on."""
    return {key for one in node.inputs.values() for key in (one.stage.key, *_below(one))}
