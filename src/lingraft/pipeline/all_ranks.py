"""A run in several processes: the first one makes every stage, the others wait in the store for what training reads.

A stage output is complete or absent, so the others wait by polling: no lock, and the processes may be on several
machines that share the store's folder. All meet when training begins. The first one says whether it is done already;
if not, all train, and the first one's output is kept. If one fails, the launcher ends the others.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.pipeline.stage_node import StageContext, StageNode
from lingraft.pipeline.stages import Graph
from lingraft.recipe import Recipe, Runtime
from lingraft.store import Draft, Store

SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def company(step: StageNode, graph: Graph, runtime: Runtime, store: Store) -> Iterator[bool]:
    """Make a step in company of the other processes where it is the training; say whether it is done already."""
    if runtime.launch is None or step is not graph.training:
        yield step.done(store)
        return
    device = runtime.resolved_device()
    with runtime.launch.together(device) as world:
        yield world.any_rank(world.is_first and step.done(store), device)


def train_along(recipe: Recipe, runtime: Runtime, graph: Graph) -> None:
    """Be one of the processes beside the first: wait for what training reads, and train with it."""
    store, training = Store(runtime.store), graph.training
    if training is None:
        return
    wait_for(training.inputs.values(), store)
    with company(training, graph, runtime, store) as done, tempfile.TemporaryDirectory() as folder:
        if not done:
            folders = {role: store.folder(one.stage) for role, one in training.inputs.items()}
            draft = Draft(Path(folder), is_first=False)
            training.make(
                StageContext(
                    recipe,
                    runtime,
                    draft,
                    folders,
                    store.scratch_dir(training.stage),
                    store.trunks(training.stage),
                )
            )


def wait_for(steps: Iterable[StageNode], store: Store) -> None:
    """Wait until the outputs of all steps are stored; the launcher ends this process if the building one fails."""
    for step in steps:
        while not step.done(store):
            time.sleep(SECONDS_BETWEEN_LOOKS)
